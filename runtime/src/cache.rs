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
