//! Names of tensors: those of Hugging Face's decoders, and those that llama.cpp gives them.

/// Parts of a block.
const PARTS: [(&str, &str); 11] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];
/// Parts outside the blocks.
const OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// The name in a GGUF file of a decoder's weight with this Hugging Face name; none where there is no such part.
pub fn gguf_name(name: &str) -> Option<String> {
    let (part, end) = name.rsplit_once('.')?;
    if let Some((_, own)) = OUTSIDE.iter().find(|(theirs, _)| *theirs == part) {
        return Some(format!("{own}.{end}"));
    }
    let (block, part) = part.strip_prefix("model.layers.")?.split_once('.')?;
    let (_, own) = PARTS.iter().find(|(theirs, _)| *theirs == part)?;
    Some(format!("blk.{block}.{own}.{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_one_name() {
        let name = |name: &str| gguf_name(name).unwrap_or_default();
        assert_eq!(name("model.layers.12.self_attn.q_proj.bias"), "blk.12.attn_q.bias");
        assert_eq!(name("model.layers.0.post_attention_layernorm.weight"), "blk.0.ffn_norm.weight");
        assert_eq!(name("lm_head.weight"), "output.weight");
        assert_eq!(gguf_name("model.layers.0.mlp.experts.weight"), None);
    }
}
