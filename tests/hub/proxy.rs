//! A proxy that stands between program and server.

use super::server::{Hub, head};
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A proxy that leads to one server, whatever host is asked for; with a name and a password, it wants them.
pub struct Proxy {
    pub address: String,
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start(hub: &Hub, password: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (seen, to) = (Arc::new(Mutex::new(Vec::new())), hub.address.rsplit(':').next().unwrap().parse().unwrap());
        let shared = seen.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let seen = shared.clone();
                std::thread::spawn(move || {
                    let Some((first, headers)) = head(&mut stream) else { return };
                    seen.lock().unwrap().push(first.clone());
                    if password
                        .is_some_and(|password| headers.get("proxy-authorization").is_none_or(|sent| sent != password))
                    {
                        let _ = stream.write_all(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                        return;
                    }
                    let mut there = TcpStream::connect(("127.0.0.1", to)).unwrap();
                    if first.starts_with("CONNECT ") {
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                    } else {
                        let path =
                            first.split("://").nth(1).and_then(|rest| rest.find('/').map(|at| rest[at..].to_string()));
                        let mut asked = format!("GET {}\r\nconnection: close\r\n", path.unwrap());
                        let own = |key: &str| key.starts_with("proxy-") || key == "connection";
                        for (key, value) in headers.iter().filter(|(key, _)| !own(key)) {
                            asked += &format!("{key}: {value}\r\n");
                        }
                        there.write_all(format!("{asked}\r\n").as_bytes()).unwrap();
                    }
                    let (mut back, mut out) = (there.try_clone().unwrap(), stream.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut back, &mut out);
                        let _ = out.shutdown(Shutdown::Both);
                    });
                    let _ = std::io::copy(&mut stream, &mut there);
                });
            }
        });
        Proxy { address, seen }
    }

    /// First lines of the requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}
