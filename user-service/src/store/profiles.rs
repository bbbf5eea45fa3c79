//! Profiles.

use sql_kit::{Row, SqlError, Statement, StoreError, read, transaction, values, write_one};
use uuid::Uuid;

use super::Store;
use crate::{
    domain::{Profile, UserId},
    page_token::Cursor,
};

const FIND: Statement = Statement::per_engine(
    // Without the inner SELECT, Postgres would see how few ids there are and plan each query anew.
    "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
     FROM profiles WHERE id = ANY((SELECT $1)::uuid[])",
    // The column is qualified because `json_each` has an `id` of its own.
    "SELECT profiles.id, email, email_iat, name, bio, version, created_at, updated_at
     FROM json_each($1) JOIN profiles ON profiles.id = unhex(value)",
);

/// Locks one profile, so that its creation and its removal exclude each other: whoever creates a
/// profile sees every tombstone, and whoever adds a tombstone sees every profile. SQLite needs no
/// lock because it has a single writer.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended(id::text, 0))
     FROM unnest($1::uuid[]) AS wanted (id) ORDER BY id";

impl Store {
    /// Finds the profiles with these ids, as far as they exist, in no particular order.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn profiles(&self, ids: &[UserId]) -> Result<Vec<Profile>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        read!(self.sql, |unit| {
            let rows = unit.fetch_all(FIND, values![&ids[..]]).await?;
            rows.iter().map(profile).collect()
        })
        .await
    }

    /// Adds a profile, unless its id already has one or has a tombstone. Returns whether it was
    /// added.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn create_profile(&self, profile: &Profile) -> Result<bool, StoreError> {
        // Checked outside of the transaction first, so that callers with a tombstone do not block the
        // only writer of SQLite.
        if self.is_deleted(profile.id).await? {
            return Ok(false);
        }
        transaction!(self.sql, |unit| {
            if unit.is_postgres() {
                unit.execute(LOCK, values![&[profile.id.0][..]]).await?;
            }
            let created = unit
                .execute(
                    "INSERT INTO profiles
                         (id, email, email_iat, name, bio, version, created_at, updated_at)
                     SELECT $1, $2, $3, $4, $5, $6, $7, $8
                     WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE account_id = $1)
                     ON CONFLICT (id) DO NOTHING",
                    values![
                        profile.id.0,
                        profile.email.as_deref(),
                        profile.email_iat,
                        &profile.name,
                        &profile.bio,
                        profile.version,
                        profile.created_at,
                        profile.updated_at,
                    ],
                )
                .await?;
            Ok(created == 1)
        })
        .await
    }

    /// Stores the name, bio and time of `next` if the profile still has the version before `next`, so
    /// that one of two concurrent changes fails. Returns whether they were stored.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn change_texts(&self, next: &Profile) -> Result<bool, StoreError> {
        let changed = write_one!(self.sql, |unit| {
            unit.execute(
                "UPDATE profiles SET name = $3, bio = $4, version = $2, updated_at = $5
                 WHERE id = $1 AND version = $2 - 1",
                values![next.id.0, next.version, &next.name, &next.bio, next.updated_at],
            )
            .await
        });
        Ok(changed.await? == 1)
    }

    /// Stores the email and time of `next` under the same condition as [`Store::change_texts`],
    /// unless a newer token has provided an email in the meantime. Returns whether they were stored.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn change_email(&self, next: &Profile) -> Result<bool, StoreError> {
        let changed = write_one!(self.sql, |unit| {
            unit.execute(
                "UPDATE profiles SET email = $3, email_iat = $4, version = $2, updated_at = $5
                 WHERE id = $1 AND version = $2 - 1 AND (email_iat IS NULL OR email_iat <= $4)",
                values![
                    next.id.0,
                    next.version,
                    next.email.as_deref(),
                    next.email_iat,
                    next.updated_at,
                ],
            )
            .await
        });
        Ok(changed.await? == 1)
    }

    /// Records that a token with this `iat` has the email of the profile, unless the profile has changed
    /// or a newer token did. Returns whether it was recorded.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn confirm_email(&self, profile: &Profile, iat: i64) -> Result<bool, StoreError> {
        let confirmed = write_one!(self.sql, |unit| {
            unit.execute(
                "UPDATE profiles SET email_iat = $2
                 WHERE id = $1 AND version = $3 AND (email_iat IS NULL OR email_iat < $2)",
                values![profile.id.0, iat, profile.version],
            )
            .await
        });
        Ok(confirmed.await? == 1)
    }

    /// The first `limit` profiles after a position, by creation time, then id.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn page(
        &self,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<Profile>, StoreError> {
        read!(self.sql, |unit| {
            let rows = match after {
                None => {
                    unit.fetch_all(
                        "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                         FROM profiles ORDER BY created_at, id LIMIT $1",
                        values![limit],
                    )
                    .await?
                }
                Some(after) => {
                    unit.fetch_all(
                        "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                         FROM profiles WHERE (created_at, id) > ($2, $3)
                         ORDER BY created_at, id LIMIT $1",
                        values![limit, after.created_at, after.id.0],
                    )
                    .await?
                }
            };
            rows.iter().map(profile).collect()
        })
        .await
    }
}

fn profile(row: &Row) -> Result<Profile, SqlError> {
    Ok(Profile {
        id: UserId(row.get("id")?),
        email: row.get("email")?,
        email_iat: row.get("email_iat")?,
        name: row.get("name")?,
        bio: row.get("bio")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
