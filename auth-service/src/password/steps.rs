//! Work on a password as a list of steps. All of it is computed where it stands but bcrypt, which is
//! handed out, so that a thread can compute several bcrypt hashes at once ([`crate::lanes`]).

use bcrypt_lanes::Output;

use super::{Memory, bcrypt::Request};

/// What work comes to next.
#[derive(Debug)]
pub enum Step<T> {
    /// One bcrypt hash. Its output goes into the next call of [`Steps::next`].
    Bcrypt(Request),
    /// The end, with the result.
    Done(T),
}

/// Work on a password.
pub trait Steps {
    /// What comes of it.
    type Result;

    /// Goes on to the next bcrypt hash or to the end. `computed` is the output of the hash that the
    /// last call asked for, and nothing at the first call. Not called again after the end.
    fn next(&mut self, computed: Option<Output>, memory: &Memory) -> Step<Self::Result>;
}

/// Does all steps here and now, with the `bcrypt` crate. Takes as long as the parameters ask for:
/// call it on a thread that may be busy.
pub fn run<S: Steps>(mut steps: S, memory: &Memory) -> S::Result {
    let mut computed = None;
    loop {
        match steps.next(computed.take(), memory) {
            Step::Bcrypt(request) => computed = Some(request.compute()),
            Step::Done(result) => return result,
        }
    }
}
