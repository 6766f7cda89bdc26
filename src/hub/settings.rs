//! Environment variables of the Hub, read as Python's `huggingface_hub` reads them: where the cache lies, where the Hub is,
//! which token is sent, and whether the network may be used. An empty variable counts as not set.

use crate::error::{Error, Result};
use reqwest::Url;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const NO_HOME: &str = "no home directory is known (HOME is not set, and the system has none for this user): set HF_HOME, or \
     HF_HUB_CACHE, to the folder of the Hub's cache";

/// An access token of the Hub.
pub struct Token {
    /// The secret itself.
    pub value: String,
    /// Variable or file that it was read from.
    pub origin: String,
}

/// Looks an environment variable up by its name.
type Variables = Box<dyn Fn(&str) -> Option<OsString>>;

/// The variables of a process and its home directory.
pub struct Settings {
    variable: Variables,
    home: Option<PathBuf>,
}

impl Settings {
    /// The settings of this process.
    pub fn of_process() -> Self {
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        Self { variable: Box::new(|name| std::env::var_os(name)), home }
    }

    /// Folder of the cache: `HF_HUB_CACHE`, its older name `HUGGINGFACE_HUB_CACHE`, or `hub` in the home of Hugging Face.
    pub fn cache(&self) -> Result<PathBuf> {
        let folder = match self.first(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]) {
            Some((_, value)) => self.expand(&value)?,
            None => self.hugging_face_home()?.join("hub"),
        };
        std::path::absolute(&folder).map_err(|e| Error::io(folder, e))
    }

    /// `HF_HOME`, or `huggingface` in `XDG_CACHE_HOME` or in `~/.cache`.
    fn hugging_face_home(&self) -> Result<PathBuf> {
        if let Some((_, value)) = self.first(&["HF_HOME"]) {
            return self.expand(&value);
        }
        let caches = match self.first(&["XDG_CACHE_HOME"]) {
            Some((_, value)) => self.expand(&value)?,
            None => self.expand(OsStr::new("~/.cache"))?,
        };
        Ok(caches.join("huggingface"))
    }

    /// `HF_TOKEN`, its older name `HUGGING_FACE_HUB_TOKEN`, or the file that `hf auth login` left, which `HF_TOKEN_PATH` moves.
    pub fn token(&self) -> Result<Option<Token>> {
        if self.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        let clean = |text: &str| text.replace(['\r', '\n'], "").trim().to_string();
        if let Some((name, value)) = self.first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
            let value = clean(&value.to_string_lossy());
            if !value.is_empty() {
                return Ok(Some(Token { value, origin: name.to_string() }));
            }
        }
        let path = match self.first(&["HF_TOKEN_PATH"]) {
            Some((_, value)) => self.expand(&value)?,
            None => match self.hugging_face_home() {
                Ok(home) => home.join("token"),
                Err(_) => return Ok(None),
            },
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let value = clean(&text);
                Ok((!value.is_empty()).then(|| Token { value, origin: path.display().to_string() }))
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(Error::io(path, e)),
        }
    }

    /// `HF_ENDPOINT` without the slashes at its end, or the Hub itself.
    pub fn endpoint(&self) -> Result<Url> {
        let text = match self.first(&["HF_ENDPOINT"]) {
            Some((_, value)) => value.to_string_lossy().trim().trim_end_matches('/').to_string(),
            None => DEFAULT_ENDPOINT.to_string(),
        };
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
            _ => Err(Error::invalid(format!(
                "HF_ENDPOINT: expected an address such as {DEFAULT_ENDPOINT}, got {text:?}"
            ))),
        }
    }

    /// Whether `HF_HUB_OFFLINE`, or `TRANSFORMERS_OFFLINE` where that is not set, forbids the network.
    pub fn offline(&self) -> bool {
        self.first(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(|(name, _)| self.is_true(name))
    }

    /// Whether progress bars may be drawn.
    pub fn progress(&self) -> bool {
        !self.is_true("HF_HUB_DISABLE_PROGRESS_BARS")
    }

    /// Whether files of a snapshot may be links.
    pub fn links(&self) -> bool {
        !self.is_true("HF_HUB_DISABLE_SYMLINKS")
    }

    /// Longest silence of a server: `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds.
    pub fn timeout(&self) -> Result<Duration> {
        let Some((name, value)) = self.first(&["HF_HUB_DOWNLOAD_TIMEOUT"]) else { return Ok(DEFAULT_TIMEOUT) };
        let text = value.to_string_lossy();
        match text.trim().parse() {
            Ok(0) => Ok(DEFAULT_TIMEOUT),
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
            Err(_) => Err(Error::invalid(format!("{name}: expected a number of whole seconds, got {text:?}"))),
        }
    }

    /// The proxy for addresses of this scheme and the variable that names it: `http_proxy` or `https_proxy`, else `all_proxy`,
    /// in small letters or in capitals.
    pub fn proxy(&self, scheme: &str) -> Option<(String, String)> {
        if self.unproxied().iter().any(|host| host == "*") {
            return None;
        }
        let small = [format!("{scheme}_proxy"), "all_proxy".to_string()];
        let names = small.iter().flat_map(|name| [name.clone(), name.to_uppercase()]);
        names.into_iter().find_map(|name| {
            let value = self.first(&[&name])?.1.to_string_lossy().trim().to_string();
            Some((name, value))
        })
    }

    /// Hosts that are asked without a proxy, by `no_proxy`: names, with those under them, addresses and networks.
    pub fn unproxied(&self) -> Vec<String> {
        let list = self.first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value.to_string_lossy().into_owned());
        let list = list.unwrap_or_default();
        list.split(',').map(|host| host.trim().trim_start_matches("*.").to_string()).collect()
    }

    /// File and folders of trusted certificates, in place of the system's: `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub fn certificates(&self) -> (Option<PathBuf>, Vec<PathBuf>) {
        let file = self.first(&["SSL_CERT_FILE"]).map(|(_, value)| PathBuf::from(value));
        let folders = self.first(&["SSL_CERT_DIR"]).map(|(_, value)| value).unwrap_or_default();
        (file, std::env::split_paths(&folders).filter(|folder| !folder.as_os_str().is_empty()).collect())
    }

    /// The first of these variables that is set and not empty.
    fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, OsString)> {
        names.iter().find_map(|name| Some((*name, (self.variable)(name).filter(|value| !value.is_empty())?)))
    }

    fn is_true(&self, name: &str) -> bool {
        let value = self.first(&[name]).map(|(_, value)| value.to_string_lossy().to_uppercase());
        value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.as_str()))
    }

    /// A path with the home directory in the place of `~` and variables in the places of `$NAME` and `${NAME}`; those that
    /// are not set stay as they are.
    fn expand(&self, path: &OsStr) -> Result<PathBuf> {
        let Some(text) = path.to_str() else { return Ok(PathBuf::from(path)) };
        let user = text.strip_prefix('~').map(|rest| rest.split('/').next().unwrap_or_default());
        let home = match user {
            Some("") => Some(self.home.clone().ok_or_else(|| Error::Machine(NO_HOME.into()))?),
            Some(name) => home_of(name),
            None => None,
        };
        let (home, rest) = match (home, user) {
            (Some(home), Some(name)) => (Some(home), text[1 + name.len()..].trim_start_matches('/')),
            _ => (None, text),
        };
        let mut parts = rest.split('$');
        let mut said = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let end = part.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(part.len());
            let braced = part.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, after) = braced.unwrap_or_else(|| part.split_at(end));
            match (self.variable)(name).filter(|_| !name.is_empty()) {
                Some(value) => said.extend([value.to_string_lossy().as_ref(), after]),
                None => said.extend(["$", part]),
            }
        }
        Ok(home.map_or_else(|| PathBuf::from(&said), |home| home.join(&said)))
    }
}

/// The home directory of a user of this system.
fn home_of(user: &str) -> Option<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user)?;
    fields.get(5).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(home: Option<&str>, variables: &[(&str, &str)]) -> Settings {
        let owned: Vec<(String, String)> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let variable = move |name: &str| owned.iter().find(|(key, _)| key == name).map(|(_, value)| value.into());
        Settings { variable: Box::new(variable), home: home.map(PathBuf::from) }
    }

    /// As `huggingface_hub/constants.py` (2.4.0) has it.
    #[test]
    fn the_cache_lies_where_the_python_client_looks() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "/h/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/y")], "/y/hub"),
            (&[("HF_HOME", "/y"), ("HUGGINGFACE_HUB_CACHE", "/z")], "/z"),
            (&[("HUGGINGFACE_HUB_CACHE", "/z"), ("HF_HUB_CACHE", "/w")], "/w"),
            (&[("HF_HOME", "~/y")], "/h/y/hub"),
            (&[("HF_HOME", "~")], "/h/hub"),
            (&[("HF_HUB_CACHE", "~/w")], "/h/w"),
            (&[("HF_HUB_CACHE", "$DISK/${WHERE}_$NOWHERE"), ("DISK", "/d"), ("WHERE", "e")], "/d/e_$NOWHERE"),
            (&[("HF_HUB_CACHE", "~nobody-of-this-name/w")], "~nobody-of-this-name/w"),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", ""), ("XDG_CACHE_HOME", "")], "/h/.cache/huggingface/hub"),
        ];
        for (variables, expected) in cases {
            let expected = std::path::absolute(expected).unwrap();
            assert_eq!(with(Some("/h"), variables).cache().unwrap(), expected, "{variables:?}");
        }
        assert_eq!(with(None, &[("HF_HUB_CACHE", "~root")]).cache().unwrap(), home_of("root").unwrap());
    }

    #[test]
    fn without_a_home_the_message_says_what_to_set() {
        for variables in [&[][..], &[("HF_HUB_CACHE", "~/w")], &[("HF_HOME", "~")]] {
            let said = with(None, variables).cache().unwrap_err().to_string();
            assert!(said.contains("HF_HOME") && said.contains("HF_HUB_CACHE"), "{said}");
        }
        assert_eq!(with(None, &[("HF_HUB_CACHE", "/w")]).cache().unwrap(), PathBuf::from("/w"));
        assert!(with(None, &[("HF_HUB_CACHE", "/w")]).token().unwrap().is_none());
    }

    #[test]
    fn the_token_is_that_of_the_variable_or_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (home, moved) = (folder.path().to_str().unwrap(), folder.path().join("moved"));
        std::fs::write(folder.path().join("token"), " of\r\nfile \n").unwrap();
        std::fs::write(&moved, "moved\n").unwrap();
        let moved = moved.to_str().unwrap();
        let token = |variables: &[(&str, &str)]| {
            with(None, &[&[("HF_HOME", home)], variables].concat()).token().unwrap().map(|token| token.value)
        };
        assert_eq!(token(&[]).as_deref(), Some("offile"));
        assert_eq!(token(&[("HF_TOKEN_PATH", moved)]).as_deref(), Some("moved"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "old")]).as_deref(), Some("old"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "old"), ("HF_TOKEN", " new\n")]).as_deref(), Some("new"));
        assert_eq!(token(&[("HF_TOKEN", " \n")]).as_deref(), Some("offile"));
        assert_eq!(token(&[("HF_TOKEN", "new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    }

    #[test]
    fn switches_mean_what_they_mean_elsewhere() {
        let offline = |variables: &[(&str, &str)]| with(None, variables).offline();
        assert!(["1", "on", "Yes", "TRUE"].iter().all(|value| offline(&[("HF_HUB_OFFLINE", value)])));
        assert!(!["0", "off", "no", "false", ""].iter().any(|value| offline(&[("HF_HUB_OFFLINE", value)])));
        assert!(
            offline(&[("TRANSFORMERS_OFFLINE", "1")])
                && offline(&[("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "")])
        );
        assert!(!offline(&[("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "0")]));
        let endpoint = |value: &str| with(None, &[("HF_ENDPOINT", value)]).endpoint().map(|url| url.to_string());
        assert_eq!(endpoint("https://mirror.example/hf//").unwrap(), "https://mirror.example/hf");
        assert_eq!(endpoint("").unwrap(), "https://huggingface.co/");
        assert!(endpoint("mirror.example").unwrap_err().to_string().starts_with("HF_ENDPOINT: expected"));
        assert!(with(None, &[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).timeout().is_err());
        let proxied =
            with(None, &[("HTTP_PROXY", "a"), ("http_proxy", "b"), ("ALL_PROXY", "c"), ("NO_PROXY", "x, *.y")]);
        assert_eq!(proxied.proxy("http").unwrap().1, "b");
        assert_eq!(proxied.proxy("https").unwrap(), ("ALL_PROXY".to_string(), "c".to_string()));
        assert_eq!(proxied.unproxied(), ["x", "y"]);
        assert!(with(None, &[("http_proxy", "a"), ("no_proxy", "x, *")]).proxy("http").is_none());
    }
}
