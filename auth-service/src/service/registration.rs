//! Registration.

use service_kit::{access, client_address::Network};
use sql_kit::{read, write_one};

use super::Service;
use crate::{
    domain::{AccountId, Registration},
    error::Error,
    password::Make,
    store::{AccountRecord, accounts},
};

impl Service {
    /// Creates an account.
    ///
    /// # Errors
    ///
    /// [`Error::EmailAlreadyRegistered`], throttling, overload, or the database.
    pub async fn register(
        &self,
        registration: Registration,
        network: Network,
    ) -> Result<AccountRecord, Error> {
        self.loaded_keys()?;
        self.admit(&self.limits.registrations, network)?;
        let Registration { email, password } = registration;
        // Spares the hash where the answer is known already; the insertion decides.
        let existing = read!(self.store, |unit| accounts::by_email(unit, &email).await);
        if existing.await?.is_some() {
            return Err(Error::EmailAlreadyRegistered);
        }
        let password_hash = self.hashing.run(Make::new(self.scheme, password)?).await??;
        let account = AccountRecord {
            id: AccountId::generate(),
            email,
            password_hash,
            created_at: self.store.now(),
            generation: 0,
            email_verified: false,
            disabled: false,
        };
        let inserted = write_one!(self.store, |unit| accounts::insert(unit, &account).await);
        if !inserted.await? {
            return Err(Error::EmailAlreadyRegistered);
        }
        access::note_account(account.id);
        tracing::info!(event = "account.registered", account = %account.id, %network, "account registered");
        Ok(account)
    }
}
