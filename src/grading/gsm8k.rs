//! GSM8K: the number that an answer ends in, as the project's own answers have it behind `####`.

/// Whether the last number of an answer is that of the reference. An answer ends where another question would begin. Commas,
/// a dollar sign and a full stop are no part of a number.
pub fn final_number(prediction: &str, reference: &str) -> f64 {
    let own = prediction.split("Question:").next().unwrap_or_default();
    let found = number(own).is_some_and(|found| Some(found) == number(reference));
    f64::from(u8::from(found))
}

/// The number behind the first `####`, or else the last number of a text.
fn number(text: &str) -> Option<String> {
    let marked = text.split_once("####").map(|(_, rest)| rest.lines().next().unwrap_or_default());
    let plain: String = marked.unwrap_or(text).chars().filter(|c| *c != ',' && *c != '$').collect();
    let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let found = plain.split(|c: char| !is_part(c)).filter_map(|part| {
        let part = part.trim_end_matches(['.', '-']);
        // `5-3` is a difference, `-3` a number.
        let part = part.rfind('-').map_or(part, |at| if at == 0 { part } else { &part[at + 1..] });
        part.parse::<f64>().ok().filter(|value| value.is_finite())
    });
    let values: Vec<f64> = found.collect();
    let value = if marked.is_some() { values.first() } else { values.last() };
    value.map(|value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts() {
        let reference = "9 * 2 = $<<9*2=18>>18 every day.\n#### 1,018";
        for right in
            ["#### 1018", "She makes $1,018.", "18 and 1000: 1018.00", "It is 1018\n\nQuestion: 3 * 4?\nAnswer: 12"]
        {
            assert_eq!(final_number(right, reference), 1.0, "{right}");
        }
        for wrong in ["", "1018 of 5", "-1018", "####", "one thousand", "10.18"] {
            assert_eq!(final_number(wrong, reference), 0.0, "{wrong}");
        }
        assert_eq!(final_number("20-15 = -5", "#### -5"), 1.0);
        assert_eq!(final_number("20-15", "#### 15"), 1.0);
    }
}
