//! Calls to a service that has several addresses.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    members::Members,
    resolver::{Answer, ResolveError, Resolver},
    url::{Name, ServiceUrl},
};

/// The limits within which the TTL of a DNS answer is respected.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(60);

/// How long to wait after a failed look-up before the next one.
const RETRY: Duration = Duration::from_secs(1);

/// How long a call waits for DNS if it can use the addresses of the last answer instead.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long to wait for an address before the next one is tried in parallel (RFC 8305 section 5). The delay
/// doubles with each address, so that a service that is slow everywhere does not get many times the load.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How an attempt at one address has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure<E> {
    /// The address is down or overloaded; another one may work.
    Address(E),
    /// The service has answered, and every other address would answer the same.
    Answered(E),
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError<E> {
    /// No address of the service is known.
    #[error(transparent)]
    Resolve(ResolveError),
    /// All attempts failed; this is the last error.
    #[error(transparent)]
    Failed(E),
    /// No address answered in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

struct State<C> {
    members: Members<C>,
    /// Until when the known addresses are fresh.
    fresh_until: Option<Instant>,
    looked_up: Option<Instant>,
    /// When the running look-up was started, if there is one.
    looking_up_since: Option<Instant>,
    /// Why the last look-up failed.
    fault: Option<ResolveError>,
}

struct Shared<C> {
    url: ServiceUrl,
    resolver: Resolver,
    make: Box<dyn Fn(SocketAddr) -> C + Send + Sync>,
    state: Mutex<State<C>>,
    /// The number of finished look-ups. Waiting calls watch it.
    ended: watch::Sender<u64>,
}

/// The addresses of a service, each with the client `C` that calls it. Clones share them.
pub struct Endpoints<C> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for Endpoints<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C: Clone + Send + Sync + 'static> Endpoints<C> {
    /// The addresses of the service that `url` names, resolved by `resolver`. `make` creates the client for an
    /// address, which is kept for as long as the address is known. The first call starts the first look-up.
    #[must_use]
    pub fn new(
        url: ServiceUrl,
        resolver: Resolver,
        make: impl Fn(SocketAddr) -> C + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            members: Members::new(),
            fresh_until: None,
            looked_up: None,
            looking_up_since: None,
            fault: None,
        };
        let shared = Shared {
            url,
            resolver,
            make: Box::new(make),
            state: Mutex::new(state),
            ended: watch::Sender::new(0),
        };
        if let Name::Address(address) = shared.url.name {
            let answer = Answer::of_addresses([address], Duration::MAX);
            shared.state().members.replace(answer, &shared.make);
        }
        Self { shared: Arc::new(shared) }
    }

    /// The URL that was passed to `new`.
    #[must_use]
    pub fn url(&self) -> &ServiceUrl {
        &self.shared.url
    }

    /// Calls the service. `attempt` is made at the next address in turn and, if that fails or is slow, at the
    /// others. The first response counts.
    ///
    /// # Errors
    ///
    /// [`CallError`] if no address answered `within` this time, which includes name resolution.
    pub async fn call<A, E, F>(
        &self,
        within: Duration,
        attempt: impl Fn(C) -> F,
    ) -> Result<A, CallError<E>>
    where
        F: Future<Output = Result<A, Failure<E>>>,
    {
        let deadline = Instant::now() + within;
        let order = timeout_at(deadline, self.order()).await;
        let order = order.map_err(|_| CallError::Timeout(within))?.map_err(CallError::Resolve)?;
        let mut waiting = order.into_iter().peekable();
        let mut running = FuturesUnordered::new();
        // The addresses that have not answered yet, in the order of their attempts.
        let mut open = Vec::new();
        let mut delay = ATTEMPT_DELAY;
        let mut next = Instant::now();
        loop {
            if (running.is_empty() || next <= Instant::now())
                && let Some((address, client)) = waiting.next()
            {
                let attempt = attempt(client);
                running.push(async move { (address, attempt.await) });
                open.push(address);
                next = Instant::now() + delay;
                delay *= 2;
            }
            tokio::select! {
                biased;
                Some((address, outcome)) = running.next() => {
                    let asked = open.iter().position(|other| *other == address);
                    match outcome {
                        Ok(answer) => {
                            // Addresses that were tried earlier took longer than a full delay plus the time of
                            // this response, so they count as failed.
                            self.shared.worked(address, open.get(..asked.unwrap_or(0)));
                            return Ok(answer);
                        }
                        Err(Failure::Answered(error)) => {
                            self.shared.worked(address, None);
                            return Err(CallError::Failed(error));
                        }
                        Err(Failure::Address(error)) => {
                            self.shared.failed(&[address]);
                            open.retain(|other| *other != address);
                            if running.is_empty() && waiting.peek().is_none() {
                                return Err(CallError::Failed(error));
                            }
                            next = Instant::now();
                        }
                    }
                }
                () = sleep_until(next), if waiting.peek().is_some() => {}
                () = sleep_until(deadline) => {
                    self.shared.failed(&open);
                    return Err(CallError::Timeout(within));
                }
            }
        }
    }

    /// The addresses in the order in which to try them. Starts a look-up if the known ones are no longer fresh.
    async fn order(&self) -> Result<Vec<(SocketAddr, C)>, ResolveError> {
        let mut ended = self.shared.ended.subscribe();
        let (looking_up_since, is_empty) = {
            let mut state = self.shared.state();
            let now = Instant::now();
            let is_fixed = matches!(self.shared.url.name, Name::Address(_));
            let is_fresh = is_fixed || state.fresh_until.is_some_and(|until| now < until);
            if !is_fresh && state.looking_up_since.is_none() {
                state.looking_up_since = Some(now);
                // A task of its own, because the caller may be cancelled before the answer arrives.
                tokio::spawn(Arc::clone(&self.shared).look_up());
            }
            (state.looking_up_since.filter(|_| !is_fresh), state.members.is_empty())
        };
        if let Some(since) = looking_up_since {
            if is_empty {
                let _ = ended.changed().await;
            } else {
                // The wait is measured from the start of the look-up, so that one slow look-up does not delay
                // every call.
                let _ = timeout_at(since + PATIENCE, ended.changed()).await;
            }
        }
        let mut state = self.shared.state();
        if state.members.is_empty() {
            let unknown = || ResolveError::Empty(self.shared.url.name.to_string());
            return Err(state.fault.clone().unwrap_or_else(unknown));
        }
        Ok(state.members.order(Instant::now()))
    }
}

impl<C: Clone> Shared<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_up(self: Arc<Self>) {
        let outcome = self.resolver.resolve(&self.url.name).await;
        {
            let mut state = self.state();
            let now = Instant::now();
            state.looked_up = Some(now);
            state.looking_up_since = None;
            let fresh_for = match outcome {
                Ok(answer) => {
                    let ttl = answer.ttl.clamp(MIN_TTL, MAX_TTL);
                    let is_back = state.fault.take().is_some() && !state.members.is_empty();
                    self.take(&mut state.members, answer, is_back);
                    ttl
                }
                Err(error) => {
                    self.report(&error, &state);
                    state.fault = Some(error);
                    RETRY
                }
            };
            state.fresh_until = Some(now + fresh_for);
        }
        self.ended.send_modify(|ended| *ended += 1);
    }

    fn take(&self, members: &mut Members<C>, answer: Answer, is_back: bool) {
        let name = &self.url.name;
        let has_changed = members.replace(answer, &self.make);
        let addresses = members.addresses();
        if has_changed {
            tracing::info!(%name, ?addresses, "addresses changed");
        } else if is_back {
            tracing::info!(%name, "the name can be resolved again");
        }
    }

    /// Logs a warning once per outage. If no address is known yet, the caller reports the error instead.
    fn report(&self, error: &ResolveError, state: &State<C>) {
        let (name, known) = (&self.url.name, state.members.len());
        if known == 0 || state.fault.is_some() {
            tracing::debug!(%name, %error, known, "the name cannot be resolved");
        } else {
            tracing::warn!(
                %name, %error, known,
                "the name cannot be resolved: the addresses that are known are kept"
            );
        }
    }

    fn worked(&self, address: SocketAddr, slower: Option<&[SocketAddr]>) {
        self.state().members.worked(address);
        if let Some(slower @ [_, ..]) = slower {
            self.failed(slower);
        }
    }

    /// Excludes the addresses for a while, and triggers a new look-up, because the service may have moved.
    fn failed(&self, addresses: &[SocketAddr]) {
        let mut state = self.state();
        let now = Instant::now();
        for address in addresses {
            if state.members.failed(*address, now) {
                tracing::debug!(name = %self.url.name, %address, "an address does not answer");
            }
        }
        let soon = state.looked_up.map(|at| at + MIN_TTL);
        state.fresh_until = state.fresh_until.min(soon);
    }
}

impl<C> fmt::Debug for Endpoints<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoints({})", self.shared.url)
    }
}
