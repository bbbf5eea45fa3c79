//! The folder into which the service under test writes its mail.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Mutex, time::Duration};

/// A mail that has arrived.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) kind: String,
    pub(super) to: String,
    pub(super) text: String,
}

impl Mail {
    /// The secret of its link.
    pub(super) fn token(&self) -> String {
        let (_, after) = self.text.split_once("#token=").unwrap_or_else(|| panic!("{}", self.text));
        after.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
    }
}

pub(super) struct Mailbox {
    folder: PathBuf,
    seen: Mutex<BTreeSet<String>>,
}

impl Mailbox {
    pub(super) fn new(folder: &str) -> Self {
        Self { folder: folder.into(), seen: Mutex::default() }
    }

    /// What has arrived and was not looked at.
    fn unseen(&self) -> Vec<(String, Mail)> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = files
            .map(|file| file.file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".eml") && !self.seen.lock().unwrap().contains(name))
            .collect();
        names.sort();
        let read = |name: String| {
            let text = fs::read_to_string(self.folder.join(&name)).unwrap();
            let to = text.lines().find_map(|line| line.strip_prefix("To: ")).unwrap().to_owned();
            let kind = name.split('-').nth(1).unwrap().to_owned();
            (name, Mail { kind, to, text })
        };
        names.into_iter().map(read).collect()
    }

    /// Waits for a mail of this kind to this address.
    pub(super) async fn next(&self, kind: &str, to: &str) -> Mail {
        for _ in 0..400 {
            let found =
                self.unseen().into_iter().find(|(_, mail)| mail.kind == kind && mail.to == to);
            if let Some((name, mail)) = found {
                self.seen.lock().unwrap().insert(name);
                return mail;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no {kind} to {to} came, but {:?}", self.unseen());
    }

    /// Checks that nothing else has come and nothing comes in the next second.
    #[track_caller]
    pub(super) fn assert_empty(&self) {
        let unseen: Vec<_> =
            self.unseen().into_iter().map(|(_, mail)| (mail.kind, mail.to)).collect();
        assert!(unseen.is_empty(), "{unseen:?}");
    }

    pub(super) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
}
