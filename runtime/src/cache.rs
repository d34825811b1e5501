//! The directory in which processes leave for later ones what took time to find out.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The environment variable that names another directory; an empty one asks for none.
pub const DIRECTORY: &str = "IPEX_CACHE_DIR";

/// That of this user (Linux: `~/.cache/ipex`) or the one that [`DIRECTORY`] names; none if nothing is to be kept.
pub fn directory() -> Option<PathBuf> {
    match std::env::var_os(DIRECTORY) {
        Some(named) if named.is_empty() => None,
        Some(named) => Some(named.into()),
        None => Some(dirs::cache_dir()?.join("ipex")),
    }
}

/// Writes a file as a whole, so that no other process reads half of it.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Whoever has the old file open reads all of it, and an interrupted write leaves the old one.
    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file");
        replace(&path, b"old").unwrap();
        let mut old = std::fs::File::open(&path).unwrap();
        replace(&path, b"new contents").unwrap();
        let mut read = String::new();
        old.read_to_string(&mut read).unwrap();
        assert_eq!(read, "old");
        assert_eq!(std::fs::read(&path).unwrap(), b"new contents");
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "nothing temporary stays");
    }
}
