//! Keys of providers, from the environment or from `.env` in the working directory. A key is sent to its server and is written
//! nowhere else: it has no form to be printed in.

use crate::error::{Error, Result};
use crate::text_file::read_text;
use std::path::Path;

/// Name of the file beside which a command is called.
pub(super) const DOT_ENV: &str = ".env";

/// A key, and where it is from.
pub(super) struct ApiKey {
    /// The secret itself.
    pub value: String,
    /// The variable, and the file where it is of one.
    pub origin: String,
}

impl ApiKey {
    /// The key that one of these variables holds, in the environment or else in the file.
    ///
    /// # Errors
    /// A file that cannot be read, or a key that no header can carry; the error does not show it.
    pub fn find(variables: &[&str], environment: impl Fn(&str) -> Option<String>, file: &Path) -> Result<Option<Self>> {
        let full = |value: String| Some(value.trim().to_string()).filter(|value| !value.is_empty());
        let mut found = None;
        for name in variables {
            if let Some(value) = environment(name).and_then(full) {
                found = found.or(Some(Self { value, origin: name.to_string() }));
            }
        }
        if found.is_none() && file.is_file() {
            let text = read_text(file)?;
            let of = |name: &&str| {
                let value = assigned(&text, name).and_then(full)?;
                Some(Self { value, origin: format!("{name} of {}", file.display()) })
            };
            found = variables.iter().find_map(of);
        }
        match found {
            Some(key) if !key.value.chars().all(|c| c.is_ascii_graphic()) => {
                Err(Error::invalid(format!("{}: expected a key in ASCII without blanks, got others", key.origin)))
            }
            found => Ok(found),
        }
    }

    /// A message without the key, should a server have repeated it.
    pub fn hide(&self, message: &str) -> String {
        message.replace(&self.value, "[key]")
    }
}

/// The last value of a variable in lines `NAME=value`, with `export` before it or quotes around the value or neither.
fn assigned(text: &str, name: &str) -> Option<String> {
    let value = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=')?;
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.split_once(quote));
        let plain = || value.split(" #").next().unwrap_or_default().trim();
        (key.trim() == name).then(|| quoted.map_or_else(plain, |(inner, _)| inner).to_string())
    };
    text.lines().filter_map(value).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_the_environment_or_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(DOT_ENV);
        let find = |names: &[&str], set: Option<&str>| {
            let key = ApiKey::find(names, |_| set.map(String::from), &file).unwrap();
            key.map(|key| (key.value, key.origin.split(' ').next().unwrap_or_default().to_string()))
        };
        assert_eq!(find(&["A"], None), None);
        std::fs::write(&file, "# A=no\nexport A = \"one # two\" # three\nB=four # five\n\nC=''\nD=x\nD='six'\n")
            .unwrap();
        let is = |value: &str, origin: &str| Some((value.to_string(), origin.to_string()));
        assert_eq!(find(&["B"], None), is("four", "B"));
        assert_eq!(find(&["B"], Some(" own\n")), is("own", "B"));
        assert_eq!(find(&["B"], Some(" ")), is("four", "B"));
        assert_eq!((find(&["C"], None), find(&["C", "D"], None)), (None, is("six", "D")));
        let said = ApiKey::find(&["A"], |_| None, &file).err().unwrap().to_string();
        assert!(said.contains("A of") && !said.contains("one"), "{said}");
    }
}
