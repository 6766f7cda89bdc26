//! A server that speaks the three protocols, and that fails in the ways servers and the lines to them do.

use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    pub at: Instant,
}

/// Faults of the server in place of an answer.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with a status, further headers and a body.
    Status(u16, &'static str, &'static str),
    /// Ends the connection in the middle of the answer.
    Cut,
    /// Waits before it answers.
    Slow(Duration),
    /// Answers with 200 and this body, of this type.
    Body(&'static str, &'static str),
    /// Answers without a count of tokens.
    Uncounted,
}

#[derive(Default)]
pub struct State {
    pub acts: VecDeque<Act>,
    pub calls: Vec<Call>,
    /// Requests that are answered now, and the most there were.
    pub open: usize,
    pub most_open: usize,
    /// Before every answer.
    pub delay: Duration,
}

pub struct Server {
    pub address: String,
    pub state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Server { address, state }
    }

    /// Failures before the next answers.
    pub fn acts(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().acts.extend(acts);
    }

    /// Requests since the last call.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    while let Some(call) = read(&mut stream) {
        let (act, delay) = {
            let mut state = state.lock().unwrap();
            state.calls.push(call.clone());
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
            (state.acts.pop_front(), state.delay)
        };
        std::thread::sleep(delay);
        let goes_on = answer(&mut stream, &call, act);
        state.lock().unwrap().open -= 1;
        if !goes_on {
            return;
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Call> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_string();
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_lowercase(), value.trim().to_string())).collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Call { path, headers, body: serde_json::from_slice(&body).unwrap_or_default(), at: Instant::now() })
}

/// Answers; false where the connection ends.
fn answer(stream: &mut TcpStream, call: &Call, act: Option<Act>) -> bool {
    let json = "application/json";
    let (status, headers, kind, body) = match &act {
        Some(Act::Status(status, headers, body)) => (*status, *headers, json, body.to_string()),
        Some(Act::Body(kind, body)) => (200, "", *kind, body.to_string()),
        Some(Act::Slow(wait)) => {
            std::thread::sleep(*wait);
            (200, "", json, reply(call, true))
        }
        Some(Act::Uncounted) => (200, "", json, reply(call, false)),
        Some(Act::Cut) | None => (200, "", json, reply(call, true)),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}\r\n");
    let sent = if matches!(act, Some(Act::Cut)) { length / 2 } else { length };
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body.as_bytes()[..sent])).is_ok()
        && sent == length
}

/// The words of a request's message.
pub fn prompt(call: &Call) -> &str {
    let text = &call.body["messages"][0]["content"];
    text.as_str().or(call.body["contents"][0]["parts"][0]["text"].as_str()).unwrap_or_default()
}

/// Tokens that a prompt is billed as: its words and seven more.
pub fn billed(prompt: &str) -> usize {
    prompt.split_whitespace().count() + 7
}

/// A judge's reply: 9 where a short form says how many coins who was asked about hid, else 2, and 1 less of a model called strict;
/// answers are equivalent if they are the same. None of a prompt for no judge.
fn verdict(prompt: &str, model: &str) -> Option<String> {
    let between = |from: &str, to: &str| Some(prompt.split_once(from)?.1.split_once(to)?.0);
    if prompt.contains("\"grade\"") {
        let name = between("How many coins did ", " ")?;
        let short = between("Short form:\n", "\n\nAnswer with JSON")?;
        let grade = if short.contains(&format!("{name} hid ")) { 9 } else { 2 };
        return Some(format!("{{\"grade\": {}}}", grade - i32::from(model == "strict")));
    }
    let whole = between("With the whole text:\n", "\n\nWith the short form:\n")?;
    let short = between("With the short form:\n", "\n\nAnswer with JSON")?;
    let verdict = if whole == short { "equivalent" } else { "not_equivalent" };
    Some(format!("{{\"verdict\": \"{verdict}\", \"confidence\": 1.0}}"))
}

/// The reply of each protocol, whole, as its documentation has it: the number of coins that a text says somebody hid, or the verdict
/// of a judge.
fn reply(call: &Call, counted: bool) -> String {
    let prompt = prompt(call);
    let name = prompt.rsplit("How many coins did ").next().unwrap_or_default().split(' ').next().unwrap_or_default();
    let told = prompt.split(&format!("{name} hid ")).nth(1).and_then(|rest| rest.split(' ').next());
    let text = told.map_or("I do not know.".to_string(), |number| format!("{number}\nThat is what the text says."));
    let model = call.body["model"].as_str().unwrap_or("gemini-test").to_string();
    let text = verdict(prompt, &model).unwrap_or(text);
    let (input, output) = (billed(prompt), text.split_whitespace().count());
    let mut reply = if call.path.ends_with("/chat/completions") {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null}, "logprobs": null,
                "finish_reason": "stop"}],
            "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
        })
    } else if call.path.ends_with("/v1/messages") {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": input, "output_tokens": output},
        })
    } else {
        json!({
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output},
            "modelVersion": "gemini-test",
        })
    };
    if !counted {
        let object = reply.as_object_mut().unwrap();
        ["usage", "usageMetadata"].iter().for_each(|key| _ = object.remove(*key));
    }
    reply.to_string()
}
