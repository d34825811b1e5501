//! What was found to be faster, kept on disk from process to process.
//!
//! One JSON object of texts by texts for each version of this crate, in the [cache's directory](cache::directory). The keys name processor and shape, see [`Choices::find`]. A
//! file that is missing or cannot be read is an empty one; one that cannot be written is said once on stderr.

use crate::{cache, cpu};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, OnceLock};

type Texts = BTreeMap<String, String>;

/// The choices of one file.
pub struct Choices {
    path: Option<PathBuf>,
    known: Mutex<Texts>,
}

impl Choices {
    /// Those of this user.
    pub fn get() -> &'static Choices {
        static CHOICES: OnceLock<Choices> = OnceLock::new();
        CHOICES.get_or_init(|| Choices::of(cache::directory().as_deref()))
    }

    /// Those of a directory; without one they last as long as the process.
    fn of(directory: Option<&Path>) -> Choices {
        let name = format!("choices-{}.json", env!("CARGO_PKG_VERSION"));
        let path = directory.map(|d| d.join(name));
        let known = path.as_deref().map(read).unwrap_or_default();
        Choices {
            path,
            known: Mutex::new(known),
        }
    }

    /// The choice for a problem on this processor.
    pub fn find(&self, problem: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        known.get(&key(problem)).cloned()
    }

    /// Keeps a choice. What other processes have added to the file meanwhile stays.
    pub fn keep(&self, problem: &str, choice: &str) {
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        known.insert(key(problem), choice.into());
        let Some(path) = &self.path else {
            return;
        };
        for (key, choice) in read(path) {
            known.entry(key).or_insert(choice);
        }
        if let Err(error) = write(path, &known) {
            static SAID: Once = Once::new();
            SAID.call_once(|| eprintln!("ipex: {} was not written: {error}", path.display()));
        }
    }
}

fn key(problem: &str) -> String {
    format!("{}: {problem}", cpu::model())
}

fn read(path: &Path) -> Texts {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write(path: &Path, known: &Texts) -> std::io::Result<()> {
    cache::replace(path, &serde_json::to_vec_pretty(known)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_outlive_the_process_that_made_them() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("not there yet");
        let [first, other] = [(); 2].map(|_| Choices::of(Some(&inside)));
        assert_eq!(first.find("a"), None);
        first.keep("a", "own");
        other.keep("b", "aten");
        let later = Choices::of(Some(&inside));
        assert_eq!(later.find("a").as_deref(), Some("own"));
        assert_eq!(later.find("b").as_deref(), Some("aten"));
        assert_eq!(later.find("c"), None);
    }

    #[test]
    fn a_broken_file_is_an_empty_one_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let choices = Choices::of(Some(directory.path()));
        let path = choices.path.clone().unwrap();
        std::fs::write(&path, "{\"half of").unwrap();
        let choices = Choices::of(Some(directory.path()));
        assert_eq!(choices.find("a"), None);
        choices.keep("a", "own");
        assert_eq!(read(&path).len(), 1);
    }

    #[test]
    fn without_a_directory_they_last_as_long_as_the_process() {
        let choices = Choices::of(None);
        choices.keep("a", "own");
        assert_eq!(choices.find("a").as_deref(), Some("own"));
    }
}
