//! Notices to the owner of an account, by mail if mail is on.

use sql_kit::Unit;

use super::{Requester, Service};
use crate::{
    error::Error,
    mail::{Message, Outgoing},
};

impl Service {
    /// Prepares a notice for the outbox; `None` if mail is off.
    pub(super) fn notice(&self, message: &Message<'_>) -> Result<Option<Outgoing>, Error> {
        self.mail.as_ref().map(|mail| mail.mailer.write(message)).transpose()
    }

    /// Adds a notice to the outbox, in the transaction of the change that it reports.
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

    /// Wakes the worker, so that it sends new mail at once.
    pub(super) fn wake_mailer(&self) {
        if let Some(mail) = &self.mail {
            mail.mailer.wake();
        }
    }
}
