//! The statements of an outbox, which are generated at compile time from the name of its table.

use sql_kit::Statement;

/// The names and the statements of an outbox. Created by [`table!`](crate::table!).
#[derive(Debug)]
pub struct Table {
    #[doc(hidden)]
    pub names: Names,
    #[doc(hidden)]
    pub add: Statement,
    #[doc(hidden)]
    pub remove: Statement,
    #[doc(hidden)]
    pub remove_all: Statement,
    #[doc(hidden)]
    pub list: Statement,
    #[doc(hidden)]
    pub backlog: Statement,
    #[doc(hidden)]
    pub retry_all: Statement,
    #[doc(hidden)]
    pub retry: Statement,
    #[doc(hidden)]
    pub is_due: Statement,
    #[doc(hidden)]
    pub take: Statement,
    #[doc(hidden)]
    pub renew: Statement,
    #[doc(hidden)]
    pub postpone: Statement,
    #[doc(hidden)]
    pub release: Statement,
    #[doc(hidden)]
    pub is_expired: Statement,
    #[doc(hidden)]
    pub expire: Statement,
}

/// The names that metrics, log events and commands use.
#[doc(hidden)]
#[derive(Debug)]
pub struct Names {
    pub what: &'static str,
    pub depth: &'static str,
    pub depth_help: &'static str,
    pub age: &'static str,
    pub age_help: &'static str,
    pub attempts: &'static str,
    pub attempts_help: &'static str,
    pub delivered: &'static str,
    pub failed: &'static str,
    pub discarded: &'static str,
    pub expired: &'static str,
}

/// Creates the [`Table`] of an outbox. `table` and `id` are the names of the table and its primary
/// key, `metrics` is the prefix of its metrics, `event` is the prefix of its log events, and `what`
/// is the plural noun for its entries.
///
/// ```
/// static MAILS: outbox::Table = outbox::table!(
///     table: "mails", id: "id", metrics: "auth.mail", event: "mail", what: "mails"
/// );
/// ```
#[macro_export]
macro_rules! table {
    (
        table: $table:literal, id: $id:literal, metrics: $metrics:literal, event: $event:literal,
        what: $what:literal $(,)?
    ) => {
        $crate::Table {
            names: $crate::Names {
                what: $what,
                depth: concat!($metrics, ".depth"),
                depth_help: concat!("How many ", $what, " wait for their delivery"),
                age: concat!($metrics, ".age"),
                age_help: concat!("The age of the oldest of the ", $what, " that wait"),
                attempts: concat!($metrics, ".attempts"),
                attempts_help: concat!("Attempts to deliver ", $what, ", by what came of them"),
                delivered: concat!($event, ".delivered"),
                failed: concat!($event, ".failed"),
                discarded: concat!($event, ".discarded"),
                expired: concat!($event, ".expired"),
            },
            // The new entry must sort after every entry of its key, even if the clock has gone
            // back.
            add: $crate::Statement::per_engine(
                concat!(
                    "INSERT INTO ", $table, " (", $id, ", order_key, payload, request_id, traceparent,
                     created_at, due_at, attempts, expires_at)
                     VALUES ($1, $2, $3, $4, $5, GREATEST($6::timestamptz, (
                         SELECT max(created_at) + interval '1 microsecond'
                         FROM ", $table, " WHERE order_key = $2
                     )), $6, 0, $7)
                     ON CONFLICT (", $id, ") DO NOTHING"
                ),
                concat!(
                    "INSERT INTO ", $table, " (", $id, ", order_key, payload, request_id, traceparent,
                     created_at, due_at, attempts, expires_at)
                     VALUES ($1, $2, $3, $4, $5, max($6, coalesce((
                         SELECT max(created_at) + 1 FROM ", $table, " WHERE order_key = $2
                     ), 0)), $6, 0, $7)
                     ON CONFLICT (", $id, ") DO NOTHING"
                ),
            ),
            remove: $crate::table!(@both "DELETE FROM ", $table, " WHERE ", $id, " = $1"),
            remove_all: $crate::table!(@both "DELETE FROM ", $table),
            list: $crate::table!(@both
                "SELECT ", $id, " AS id, order_key, payload, request_id, traceparent, created_at,
                        attempts, due_at, leased_until, expires_at, last_error
                 FROM ", $table, " ORDER BY created_at, ", $id, " LIMIT $1"
            ),
            backlog: $crate::table!(@both
                "SELECT count(*) AS depth, min(created_at) AS oldest FROM ", $table
            ),
            retry_all: $crate::table!(@both
                "UPDATE ", $table, " SET due_at = $1 WHERE due_at > $1"
            ),
            retry: $crate::table!(@both
                "UPDATE ", $table, " SET due_at = $2 WHERE ", $id, " = $1"
            ),
            is_due: $crate::table!(@both
                "SELECT 1 FROM ", $table, "
                 WHERE due_at <= $1 AND (leased_until IS NULL OR leased_until <= $1)
                   AND (expires_at IS NULL OR expires_at > $1)
                 LIMIT 1"
            ),
            // Rows that another replica is taking at the moment are locked. They are skipped
            // instead of waited for.
            take: $crate::Statement::per_engine(
                $crate::table!(@take $table, $id, "FOR UPDATE SKIP LOCKED"),
                $crate::table!(@take $table, $id, ""),
            ),
            // An attempt whose result was already stored has no lease to renew.
            renew: $crate::table!(@both
                "UPDATE ", $table, " SET leased_until = $3
                 WHERE ", $id, " = $1 AND attempts = $2 AND leased_until IS NOT NULL"
            ),
            postpone: $crate::table!(@both
                "UPDATE ", $table, " SET due_at = $3, leased_until = NULL, last_error = $4
                 WHERE ", $id, " = $1 AND attempts = $2"
            ),
            release: $crate::table!(@both
                "UPDATE ", $table, " SET leased_until = NULL WHERE ", $id, " = $1 AND attempts = $2"
            ),
            is_expired: $crate::table!(@both
                "SELECT 1 FROM ", $table, "
                 WHERE expires_at <= $1 AND (leased_until IS NULL OR leased_until <= $1)
                 LIMIT 1"
            ),
            expire: $crate::table!(@both
                "DELETE FROM ", $table, " WHERE ", $id, " IN (
                     SELECT ", $id, " FROM ", $table, "
                     WHERE expires_at <= $1 AND (leased_until IS NULL OR leased_until <= $1)
                     LIMIT $2
                 )
                 RETURNING ", $id, " AS id, order_key, payload, request_id, traceparent, created_at,
                           attempts, due_at, leased_until, expires_at, last_error"
            ),
        }
    };
    (@both $($part:expr),*) => {
        $crate::Statement::per_engine(concat!($($part),*), concat!($($part),*))
    };
    (@take $table:literal, $id:literal, $lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (
                 SELECT ", $id, " AS due_id FROM ", $table, " AS entry
                 WHERE due_at <= $1 AND (leased_until IS NULL OR leased_until <= $1)
                   AND (expires_at IS NULL OR expires_at > $1)
                   AND (order_key IS NULL OR NOT EXISTS (
                       SELECT 1 FROM ", $table, " AS earlier
                       WHERE earlier.order_key = entry.order_key
                         AND (earlier.created_at, earlier.", $id, ") < (entry.created_at, entry.", $id, ")
                   ))
                 ORDER BY due_at LIMIT $3 ", $lock, "
             )
             UPDATE ", $table, " SET leased_until = $2, attempts = attempts + 1
             FROM due WHERE ", $id, " = due_id
             RETURNING ", $id, " AS id, order_key, payload, request_id, traceparent, created_at,
                       attempts, due_at, leased_until, expires_at, last_error"
        )
    };
}
