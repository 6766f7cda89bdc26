//! Names of files and folders that fit every file system.

use sha2::{Digest, Sha256};

/// Bytes of the longest name that encrypted folders take; plain ones take 255.
pub const MOST: usize = 143;
/// Hexadecimal digits of a hash in a name.
const HASH_DIGITS: usize = 8;

/// The beginning of `name` and, behind `~`, the beginning of the SHA-256 of `of`: at most `most` bytes.
pub fn hashed(name: &str, most: usize, of: &str) -> String {
    let hash: String = Sha256::digest(of).iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = name.floor_char_boundary(most.saturating_sub(HASH_DIGITS + 1));
    format!("{}~{}", &name[..kept], &hash[..HASH_DIGITS])
}

/// `name` where it is no longer than `most` bytes, else its beginning and its hash.
pub fn shortened(name: &str, most: usize) -> String {
    if name.len() <= most { name.to_string() } else { hashed(name, most, name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters_and_stay_different() {
        assert_eq!(shortened("name", 20), "name");
        // printf 'é%.0s' {1..40} | sha256sum
        let long = "é".repeat(40);
        let cut = shortened(&long, 20);
        assert_eq!(cut, format!("{}~{}", "é".repeat(5), "84fe2e03"));
        assert!(cut.len() <= 20 && cut != shortened(&"é".repeat(41), 20));
        assert_eq!(hashed("a", 20, "abc"), "a~ba7816bf");
    }
}
