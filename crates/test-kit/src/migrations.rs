//! Rules for migrations: during a rolling upgrade, replicas of the previous version keep using a database
//! that is newer than they are.

use sql_kit::Migrations;

/// Checks that each migration only adds what an older version does not notice: tables, indexes, and columns
/// that an INSERT may omit.
///
/// # Panics
///
/// If a statement does anything else. The message contains the statement.
pub fn assert_additive(migrations: &Migrations) {
    let mut count = 0;
    for migration in [&migrations.postgres, &migrations.sqlite].into_iter().flat_map(|of| of.iter())
    {
        let text: String = migration
            .sql
            .as_str()
            .lines()
            .map(|line| line.split("--").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join(" ");
        let statements = text.split(';').map(|one| one.split_whitespace().collect::<Vec<_>>());
        let statements: Vec<_> = statements.filter(|words| !words.is_empty()).collect();
        for words in &statements {
            let number = migration.version;
            assert!(adds(words, &statements), "migration {number}: {}", words.join(" "));
            count += 1;
        }
    }
    assert!(count > 4, "there are few migrations: {count}");
}

fn adds(words: &[&str], migration: &[Vec<&str>]) -> bool {
    match words {
        ["CREATE", "TABLE" | "INDEX" | "SEQUENCE", ..] => true,
        // An index on a table of the same migration, to which older versions do not write.
        ["CREATE", "UNIQUE", "INDEX", .., "ON", table, _] => {
            migration.iter().any(|other| other.starts_with(&["CREATE", "TABLE", *table]))
        }
        // Older versions do not read tables that they do not know.
        ["INSERT", "INTO", table, ..] => {
            migration.iter().any(|other| other.starts_with(&["CREATE", "TABLE", *table]))
        }
        ["ALTER", "TABLE", _, columns @ ..] => {
            let text = columns.join(" ");
            text.starts_with("ADD COLUMN ")
                && text.split("ADD COLUMN ").skip(1).all(|column| {
                    let has_default = column.contains(" DEFAULT ");
                    !column.contains("UNIQUE") && (!column.contains("NOT NULL") || has_default)
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::adds;

    #[test]
    fn what_an_older_version_would_notice_is_found() {
        let is_fine = |text: &str| {
            let words: Vec<_> = text.split_whitespace().collect();
            adds(&words, &[vec!["CREATE", "TABLE", "new", "(id", "bigint)"]])
        };
        for fine in [
            "CREATE TABLE a (id bigint PRIMARY KEY)",
            "CREATE INDEX CONCURRENTLY a_b ON a (b)",
            "CREATE UNIQUE INDEX new_id ON new (id)",
            "INSERT INTO new VALUES (1)",
            "ALTER TABLE a ADD COLUMN b text, ADD COLUMN c bigint NOT NULL DEFAULT 0",
        ] {
            assert!(is_fine(fine), "{fine}");
        }
        for noticed in [
            "DROP TABLE a",
            "CREATE UNIQUE INDEX a_b ON a (b)",
            "INSERT INTO a VALUES (1)",
            "UPDATE a SET b = 1",
            "ALTER TABLE a RENAME COLUMN b TO c",
            "ALTER TABLE a ADD COLUMN b text NOT NULL",
            "ALTER TABLE a ADD COLUMN b text DEFAULT '', ADD COLUMN c text NOT NULL",
            "ALTER TABLE a DROP COLUMN b",
            "ALTER TABLE a ADD CHECK (b > 0)",
        ] {
            assert!(!is_fine(noticed), "{noticed}");
        }
    }
}
