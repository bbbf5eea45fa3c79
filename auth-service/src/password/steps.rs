//! The work on a password as a list of steps. Each step is computed in place, except bcrypt, which
//! is returned to the caller, so that a thread can compute several bcrypt hashes at once
//! ([`crate::lanes`]).

use bcrypt_lanes::Output;

use super::{Memory, bcrypt::Request};

/// The next step of the work.
#[derive(Debug)]
pub enum Step<T> {
    /// A bcrypt hash is needed. Pass its output to the next call of [`Steps::next`].
    Bcrypt(Request),
    /// The work is done. This is the result.
    Done(T),
}

/// The work on a password.
pub trait Steps {
    /// The type of the result.
    type Result;

    /// Continues to the next bcrypt hash or to the end. `computed` is the output of the hash that
    /// the last call requested, and `None` in the first call. Must not be called after the end.
    fn next(&mut self, computed: Option<Output>, memory: &Memory) -> Step<Self::Result>;
}

/// Does all steps on this thread, with the `bcrypt` crate. It blocks for as long as the parameters
/// demand, so do not call it on an async thread.
pub fn run<S: Steps>(mut steps: S, memory: &Memory) -> S::Result {
    let mut computed = None;
    loop {
        match steps.next(computed.take(), memory) {
            Step::Bcrypt(request) => computed = Some(request.compute()),
            Step::Done(result) => return result,
        }
    }
}
