//! What the owner of an account is told by mail, where mail is on.

use sql_kit::Unit;

use super::{Requester, Service};
use crate::{
    error::Error,
    mail::{Message, Outgoing},
};

impl Service {
    /// A notice that is ready for the outbox; none where mail is off.
    pub(super) fn notice(&self, message: &Message<'_>) -> Result<Option<Outgoing>, Error> {
        self.mail.as_ref().map(|mail| mail.mailer.write(message)).transpose()
    }

    /// Adds a notice to the outbox, in the transaction of what it tells.
    pub(super) async fn add_notice(
        &self,
        unit: &mut Unit,
        notice: Option<&Outgoing>,
        by: &Requester,
    ) -> Result<(), sqlx::Error> {
        match (&self.mail, notice) {
            (Some(mail), Some(notice)) => mail.mailer.add(unit, notice, &by.origin).await,
            _ => Ok(()),
        }
    }

    /// Has what was added sent at once.
    pub(super) fn wake_mailer(&self) {
        if let Some(mail) = &self.mail {
            mail.mailer.wake();
        }
    }
}
