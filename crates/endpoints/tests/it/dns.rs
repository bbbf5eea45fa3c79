//! A name server whose answers a test can change.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use endpoints::Resolver;
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SRV},
    },
};
use tokio::net::UdpSocket;

/// What the server does with questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers from its records.
    Answers,
    /// Says nothing.
    Silent,
    /// Says that it cannot answer.
    Fails,
    /// Says nothing to questions for A records of names that begin so.
    SilentFor(&'static str),
}

struct Zone {
    mood: Mood,
    ttl: u32,
    records: HashMap<String, Vec<RData>>,
}

#[derive(Clone)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let zone = Zone { mood: Mood::Answers, ttl: 1, records: HashMap::new() };
        let dns = Self {
            address: socket.local_addr().unwrap(),
            zone: Arc::new(Mutex::new(zone)),
            asked: Arc::default(),
        };
        let server = dns.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = server.answer(&buffer[..length]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        dns
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::of_servers([self.address])
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.zone.lock().unwrap().mood = mood;
    }

    pub(crate) fn ttl(&self, seconds: u32) {
        self.zone.lock().unwrap().ttl = seconds;
    }

    /// How many questions for A or SRV records have arrived.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The addresses of a name, by their last byte.
    pub(crate) fn hosts(&self, name: &str, last: &[u8]) {
        let of = |last: &u8| RData::A(A(Ipv4Addr::new(127, 0, 0, *last)));
        self.set(name, last.iter().map(of).collect());
    }

    /// The SRV records of a name: priority, weight, port, target.
    pub(crate) fn srv(&self, name: &str, records: &[(u16, u16, u16, &str)]) {
        let of = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let target = Name::from_ascii(target).unwrap();
            RData::SRV(SRV::new(*priority, *weight, *port, target))
        };
        self.set(name, records.iter().map(of).collect());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.zone.lock().unwrap().records.remove(name);
    }

    fn set(&self, name: &str, records: Vec<RData>) {
        self.zone.lock().unwrap().records.insert(name.to_owned(), records);
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries.first().unwrap().clone();
        let name = query.name().to_string().to_lowercase();
        if query.query_type() != RecordType::AAAA {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        let zone = self.zone.lock().unwrap();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_query(query.clone());
        match zone.mood {
            Mood::Silent => return None,
            Mood::SilentFor(start) if name.starts_with(start) => return None,
            Mood::Fails => answer.metadata.response_code = ResponseCode::ServFail,
            Mood::Answers | Mood::SilentFor(_) => match zone.records.get(&name) {
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some(records) => {
                    for data in
                        records.iter().filter(|data| data.record_type() == query.query_type())
                    {
                        let record =
                            Record::from_rdata(query.name().clone(), zone.ttl, data.clone());
                        answer.add_answer(record);
                    }
                }
            },
        }
        Some(answer.to_vec().unwrap())
    }
}
