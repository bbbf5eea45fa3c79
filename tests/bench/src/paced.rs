//! Requests at a fixed rate, as from people who do not know how busy the service is. The latency of each counts
//! from when it was due, so that a stall counts for every request that it delays.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::Failure;

/// Connections that take the requests in turn, so that one slow answer does not delay the next request.
const CONNECTIONS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks `address` for `path`, `rate` times a second for `seconds`, and prints what load.lua prints.
pub(crate) fn run(
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    rate: u32,
    seconds: u32,
) -> Result<(), Failure> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n{}\r\n",
        authorization.unwrap_or_default()
    );
    let connections = (0..CONNECTIONS).map(|_| Connection::open(address));
    let connections = connections.collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let answered = thread::scope(|scope| {
        let request = &request;
        let threads: Vec<_> = (0..CONNECTIONS)
            .zip(connections)
            .map(|(first, mut connection)| {
                scope.spawn(move || {
                    let numbers = (first..rate * seconds).step_by(CONNECTIONS as usize);
                    numbers
                        .map(|number| {
                            let due = started + Duration::from_secs(1) * number / rate;
                            thread::sleep(due.saturating_duration_since(Instant::now()));
                            let is_good = connection.ask(request).is_ok_and(|status| status == 200);
                            (due.elapsed(), is_good)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let mut micros: Vec<_> = answered.iter().map(|(took, _)| took.as_micros()).collect();
    micros.sort_unstable();
    let of = |percent: usize| micros.get(micros.len() * percent / 100).copied().unwrap_or_default();
    let failed = answered.iter().filter(|(_, is_good)| !is_good).count();
    Ok(writeln!(
        std::io::stdout(),
        "RESULT\t{}\t{}\t{}\t{}\t{}\t{failed}",
        micros.len(),
        started.elapsed().as_micros(),
        of(50),
        of(99),
        micros.last().copied().unwrap_or_default(),
    )?)
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request, reads the answer to its end, and returns its status.
    fn ask(&mut self, request: &str) -> Result<u16, Failure> {
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        status.ok_or_else(|| "no answer".into())
    }
}
