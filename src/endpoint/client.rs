//! Questions to a model behind HTTP: several at a time, each until it is answered or no further try helps.

use crate::endpoint::answers::{AnswerFolder, KeptAnswer};
use crate::endpoint::key::{ApiKey, DOT_ENV};
use crate::endpoint::prices::{Price, Prices};
use crate::endpoint::protocol::{ModelReply, Protocol};
use crate::endpoint::spending::{CallOutcome, Spending, Spent};
use crate::error::{Error, Result};
use crate::hash::sha256;
use crate::hub::failure::{Failure, Patience, Refusal};
use crate::hub::http::{host, value};
use crate::hub::http_client;
use crate::hub::settings::Settings;
use crate::rng::{self, Stream};
use reqwest::Url;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Retries of a question: two thirds of a minute where the server does not say how long to wait.
const TRIES: u32 = 8;
/// Bytes of a body that an error shows.
const SHOWN: usize = 80;

/// Settings of an endpoint.
pub struct EndpointConfig {
    /// Form of requests and replies.
    pub protocol: Protocol,
    /// The model, by the server's name for it.
    pub model: String,
    /// Address of the server, up to where the protocol goes on; absent = the provider's own.
    pub base_url: Option<String>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Questions under way at a time.
    pub concurrency: usize,
    /// Further keys of every request; a key of null is taken out.
    pub request: Map<String, Value>,
    /// Folder of the answers that are there already.
    pub answers: PathBuf,
    /// Prices that are known.
    pub prices: Prices,
    /// Dollars that may be spent.
    pub max_cost: Option<f64>,
}

/// A model behind HTTP.
pub struct Endpoint {
    config: EndpointConfig,
    base: Url,
    at_own: bool,
    address: Url,
    key: Option<ApiKey>,
    http: reqwest::blocking::Client,
    spending: Spending,
    answers: AnswerFolder,
}

/// A question, as one message of the user.
pub struct EndpointQuestion<'a> {
    /// The message.
    pub text: &'a str,
    /// Most tokens of the answer.
    pub answer_tokens: usize,
    /// Id of the example, for messages.
    pub about: &'a str,
}

/// An answer, and what it was billed as.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointAnswer {
    /// The reply.
    pub reply: ModelReply,
    /// Milliseconds that it took when it was asked.
    pub latency_ms: f64,
    /// Dollars; none where price or tokens are not known.
    pub cost_usd: Option<f64>,
}

/// A request that is ready to be sent.
struct ReadyRequest<'a> {
    body: Vec<u8>,
    hash: String,
    /// Dollars that it can cost at most.
    most: f64,
    about: &'a str,
}

impl Endpoint {
    /// An endpoint. Nothing is asked yet.
    ///
    /// # Errors
    /// An address that is none, a key that cannot be sent, a limit of dollars without a price.
    pub fn open(config: EndpointConfig) -> Result<Self> {
        let own = config.protocol.own_address();
        let text = config.base_url.as_deref().unwrap_or(own).trim();
        let base = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base =
            base.ok_or_else(|| Error::invalid(format!("--base-url: expected an address such as {own}, got {text:?}")))?;
        if let Some(key) = config.protocol.own_keys().iter().find(|key| config.request.contains_key(**key)) {
            return Err(Error::invalid(format!("--request: expected keys that are not set anyway, got `{key}`")));
        }
        let at_own = Url::parse(own).is_ok_and(|own| own.origin() == base.origin());
        let key = ApiKey::find(config.protocol.variables(), |name| std::env::var(name).ok(), Path::new(DOT_ENV))?;
        let http = http_client(&Settings::of_process(), config.timeout)?;
        let name = format!("{}:{}", config.protocol.name(), config.model);
        let priced = config.prices.of(&name, at_own).is_some();
        if config.max_cost.is_some() && !priced {
            return Err(Error::invalid(format!(
                "--max-cost: expected a model with a price, got {name}{}; --prices FILE gives it one",
                if at_own { "" } else { " at a server that is not the provider's own" }
            )));
        }
        let spending = Spending::new(config.max_cost, priced);
        let (address, answers) =
            (config.protocol.address(&base, &config.model), AnswerFolder { root: config.answers.clone() });
        Ok(Self { config, base, at_own, address, key, http, spending, answers })
    }

    /// Protocol and model, such as `openai:gpt-4o-mini`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.config.protocol.name(), self.config.model)
    }

    /// Address of the server, without a name or password.
    pub fn base_url(&self) -> String {
        let mut shown = self.base.clone();
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        shown.to_string().trim_end_matches('/').to_string()
    }

    /// Further keys of requests, as JSON.
    pub fn further(&self) -> Option<String> {
        (!self.config.request.is_empty()).then(|| Value::Object(self.config.request.clone()).to_string())
    }

    /// Price of the model, if it is known.
    pub fn price(&self) -> Option<&Price> {
        self.config.prices.of(&self.name(), self.at_own)
    }

    /// Questions under way at a time.
    pub fn concurrency(&self) -> usize {
        self.config.concurrency.max(1)
    }

    /// Calls, tokens and dollars so far.
    pub fn spent(&self) -> Spent {
        self.spending.spent()
    }

    /// Dollars that a question can cost at most; none where the price or the limit of the answer is not known. No token is
    /// less than a byte.
    pub fn most(&self, question: &EndpointQuestion) -> Option<f64> {
        let request = self.request(question);
        let bytes = Value::Object(request.clone()).to_string().len();
        Some(self.price()?.usd(bytes, self.config.protocol.limit(&request)?))
    }

    /// Answers questions, each once though it comes twice. With the first that fails no further one is sent; answers that come
    /// are kept.
    ///
    /// # Errors
    /// A question that is not answered, a limit that would be passed, or [`Error::Interrupted`] once `stop` is set.
    pub fn ask(&self, questions: &[EndpointQuestion], stop: &AtomicBool) -> Result<Vec<EndpointAnswer>> {
        let requests = questions.iter().map(|own| self.ready(own)).collect::<Result<Vec<_>>>()?;
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        requests.iter().enumerate().for_each(|(at, own)| _ = first.entry(&own.hash).or_insert(at));
        let distinct: Vec<usize> = first.values().copied().collect();
        let answers: Mutex<BTreeMap<usize, EndpointAnswer>> = Mutex::default();
        let failed: Mutex<Option<Error>> = Mutex::default();
        let (next, given_up) = (AtomicUsize::new(0), AtomicBool::new(false));
        let halts = || stop.load(Ordering::SeqCst) || given_up.load(Ordering::SeqCst);
        let work = || {
            while let Some(&at) = distinct.get(next.fetch_add(1, Ordering::SeqCst)).filter(|_| !halts()) {
                match self.answer(&requests[at], &halts) {
                    Ok(answer) => _ = answers.lock().unwrap_or_else(PoisonError::into_inner).insert(at, answer),
                    Err(error) => {
                        given_up.store(true, Ordering::SeqCst);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            (0..self.concurrency().min(distinct.len())).for_each(|_| _ = scope.spawn(work));
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let of = |own: &ReadyRequest| answers.get(first.get(own.hash.as_str())?).cloned();
        requests.iter().map(of).collect::<Option<_>>().ok_or(Error::Interrupted { step: 0 })
    }

    /// A question as a request, with the user's own keys.
    fn request(&self, question: &EndpointQuestion) -> Map<String, Value> {
        let config = &self.config;
        let mut request = config.protocol.request(&config.model, question.text, question.answer_tokens, self.at_own);
        merge(&mut request, &config.request);
        request
    }

    fn ready<'a>(&self, question: &EndpointQuestion<'a>) -> Result<ReadyRequest<'a>> {
        let most = match (self.most(question), self.config.max_cost) {
            (None, Some(_)) => {
                let message = "--max-cost: expected requests with a limit of the answer's tokens, got one without";
                return Err(Error::invalid(message));
            }
            (most, _) => most.unwrap_or(0.0),
        };
        let body = Value::Object(self.request(question)).to_string().into_bytes();
        let hash = sha256(&[self.address.as_str().as_bytes(), b"\n", &body].concat());
        Ok(ReadyRequest { body, hash, most, about: question.about })
    }

    /// The answer that is there, or a new one.
    fn answer(&self, request: &ReadyRequest, halts: &dyn Fn() -> bool) -> Result<EndpointAnswer> {
        if let Some(kept) = self.answers.get(&request.hash)? {
            self.spending.kept();
            return Ok(self.billed(kept.reply, kept.latency_ms));
        }
        let place = u64::from_str_radix(&request.hash[..12], 16).unwrap_or(0);
        let mut patience = Patience::of(TRIES, rng::uniform(&mut rng::rng(0, Stream::Data, place, 0, 0)));
        let what = format!("{}, example {:?}", self.name(), request.about);
        loop {
            self.spending.allow(request.most)?;
            let begun = Instant::now();
            let failure = match self.send(&request.body) {
                Ok(reply) => {
                    let answer = self.billed(reply, begun.elapsed().as_secs_f64() * 1e3);
                    let (input, output) = (answer.reply.input_tokens, answer.reply.output_tokens);
                    self.spending.settle(request.most, &CallOutcome::Answered(input, output, answer.cost_usd));
                    let (model, reply) = (self.config.model.clone(), answer.reply.clone());
                    let kept = KeptAnswer { address: self.base_url(), model, latency_ms: answer.latency_ms, reply };
                    self.answers.put(&request.hash, &kept)?;
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let lost = matches!(failure, Failure::Broken(_) | Failure::Final(_));
            self.spending.settle(request.most, if lost { &CallOutcome::Lost } else { &CallOutcome::Unbilled });
            patience.wait(failure, &what).map_err(|failure| self.explain(&what, &failure))?;
            if halts() {
                return Err(Error::Interrupted { step: 0 });
            }
        }
    }

    fn billed(&self, reply: ModelReply, latency_ms: f64) -> EndpointAnswer {
        let tokens = reply.input_tokens.zip(reply.output_tokens);
        let cost_usd = self.price().zip(tokens).map(|(price, (input, output))| price.usd(input, output));
        EndpointAnswer { reply, latency_ms, cost_usd }
    }

    /// One request, and its reply.
    fn send(&self, body: &[u8]) -> std::result::Result<ModelReply, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, text) in self.config.protocol.headers(self.key.as_ref().map(|key| key.value.as_str())) {
            if let Ok(mut value) = HeaderValue::from_str(&text) {
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let failed = |error| Failure::of(&self.address, error);
        let sent = self.http.post(self.address.clone()).headers(headers).body(body.to_vec()).send();
        let response = sent.map_err(failed)?;
        if !response.status().is_success() {
            return Err(Refusal::of(response).into());
        }
        let is_html = value(response.headers(), "content-type").is_some_and(|kind| kind.contains("html"));
        let (host, body) = (host(&self.address), response.bytes().map_err(failed)?);
        let begins: String = String::from_utf8_lossy(&body).trim_start().chars().take(SHOWN).collect();
        if is_html || begins.starts_with('<') {
            let message = format!("{host}: expected JSON, got HTML that begins {begins:?}; is --base-url right?");
            return Err(Failure::Final(message));
        }
        let said: Value = serde_json::from_slice(&body)
            .map_err(|e| Failure::Broken(format!("{host}: expected JSON, got {begins:?}: {e}")))?;
        self.config.protocol.reply(&said).map_err(|message| Failure::Final(format!("{host}: {message}")))
    }

    /// The error message: the request, the reason, and what helps. It never shows the key.
    fn explain(&self, what: &str, failure: &Failure) -> Error {
        let variables = self.config.protocol.variables().join(" or ");
        let help = match failure {
            Failure::Refused(refusal) => match (refusal.status, &self.key) {
                (401 | 403, Some(key)) => format!("; the key is from {}", key.origin),
                (401 | 403, None) => format!("; no key was sent: set {variables} in the environment or in {DOT_ENV}"),
                (404, _) => "; is there such a model, and is --base-url right?".into(),
                (300..=399, _) => "; redirects are not followed: --base-url wants the address itself".into(),
                _ => String::new(),
            },
            _ => String::new(),
        };
        let message = format!("{what}: {failure}{help}");
        let message = self.key.as_ref().map_or(message.clone(), |key| key.hide(&message));
        match failure {
            Failure::Unreachable(_) | Failure::Broken(_) => Error::Network(message),
            Failure::Refused(refusal) if refusal.is_passing() => Error::Network(message),
            Failure::Refused(_) | Failure::Final(_) | Failure::Local(_) => Error::invalid(message),
        }
    }
}

/// Puts keys into a request, objects into objects; null takes a key out.
fn merge(request: &mut Map<String, Value>, further: &Map<String, Value>) {
    for (key, value) in further {
        match (request.get_mut(key), value) {
            (Some(Value::Object(own)), Value::Object(more)) => merge(own, more),
            (_, Value::Null) => _ = request.shift_remove(key),
            _ => _ = request.insert(key.clone(), value.clone()),
        }
    }
}
