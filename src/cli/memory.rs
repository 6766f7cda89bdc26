//! Advice for when memory has run out.

/// Advice for libtorch's messages of exhausted memory: what to lower, largest effect first; none for other messages.
pub fn advice(message: &str) -> Option<String> {
    let said = ["out of memory", "not enough memory: you tried to allocate", "can't allocate memory"];
    if !said.iter().any(|words| message.contains(words)) {
        return None;
    }
    let size = message.split("tried to allocate ").nth(1).and_then(|rest| rest.split(['.', '(', '\n']).next());
    let size = size.map_or(String::new(), |size| format!(" ({} more were wanted)", size.trim()));
    Some(format!(
        "out of memory{size}: {LOWER}. `gist plan` says what is needed; --resume goes on from the last checkpoint where the \
         configuration stays"
    ))
}

/// Settings to lower when memory is short, largest effect first.
pub const LOWER: &str = "lower train.micro_windows (windows of one pass; gradients accumulate, so results stay the same) and set \
     train.checkpoint_activations = true (the same gradients, in more time), then lower \
     rollout.group_size, generator.gists_per_window, train.imagined_futures, data.prefix_tokens; or set \
     hardware.dtype = \"bfloat16\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_is_named_with_what_to_lower() {
        let cpu = "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
                   allocate 8000000 bytes. Error code 12 (Cannot allocate memory)";
        let gpu = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.8 GiB";
        for (message, size) in [(cpu, "8000000 bytes"), (gpu, "")] {
            let said = advice(message).unwrap_or_default();
            assert!(
                said.contains("train.checkpoint_activations = true")
                    && said.contains("train.micro_windows")
                    && said.contains(size),
                "{said}"
            );
        }
        assert_eq!(advice("shape '[2]' is invalid"), None);
    }
}
