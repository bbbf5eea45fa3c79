//! Operations on a database: their kinds, and the macros that run them.

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only reads. Several statements need not see the same snapshot.
    Read,
    /// It writes with a single statement.
    WriteOne,
    /// It is a transaction (READ COMMITTED on Postgres).
    Transaction,
}

/// Runs a read-only operation: `read!(sql, |unit| { … })`. The block is asynchronous, can use the
/// [`crate::Unit`] by the given name, and must return a `Result<T, sqlx::Error>`. The macro returns a future of
/// `Result<T, StoreError>`. See [`crate::Sql::run`].
#[macro_export]
macro_rules! read {
    ($sql:expr, |$unit:ident| $body:expr) => {
        $crate::operation!($sql, $crate::Kind::Read, |$unit| $body)
    };
}

/// Runs an operation that is a single writing statement; see [`read`].
#[macro_export]
macro_rules! write_one {
    ($sql:expr, |$unit:ident| $body:expr) => {
        $crate::operation!($sql, $crate::Kind::WriteOne, |$unit| $body)
    };
}

/// Runs an operation of several statements in one transaction; see [`read`]. It is durable when the
/// future completes. An error or [`crate::Unit::abandon`] rolls it back. After a conflict it is retried, so the
/// block may run more than once.
#[macro_export]
macro_rules! transaction {
    ($sql:expr, |$unit:ident| $body:expr) => {
        $crate::operation!($sql, $crate::Kind::Transaction, |$unit| $body)
    };
}

/// A macro is needed because a closure that takes a unit does not work: the compiler cannot prove that
/// the future of such an async closure is `Send`.
#[doc(hidden)]
#[macro_export]
macro_rules! operation {
    ($sql:expr, $kind:expr, |$unit:ident| $body:expr) => {
        // Boxed, because the future has room for either engine's work: several KiB, which would be
        // allocated and copied as a part of each request's future.
        ::std::boxed::Box::pin($sql.run(|| async {
            let mut unit = $sql.begin($kind).await?;
            let result: Result<_, $crate::SqlError> = async {
                let $unit = &mut unit;
                $body
            }
            .await;
            let result = unit.outcome(result)?;
            unit.end().await?;
            Ok(result)
        }))
    };
}
