//! Compiled modules on disk, by device, driver, flags and source.
//!
//! `IPEX_CACHE_DIR`, else `$XDG_CACHE_HOME/ipex`, else `~/.cache/ipex`; an empty `IPEX_CACHE_DIR` turns it off. A file that cannot be read or
//! written is as if it were not there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// Where a module's binary is kept; none if there is no place.
pub fn place(key: &impl Hash) -> Option<PathBuf> {
    let folder = match std::env::var_os("IPEX_CACHE_DIR") {
        Some(folder) if folder.is_empty() => return None,
        Some(folder) => PathBuf::from(folder),
        None => match std::env::var_os("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder).join("ipex"),
            None => PathBuf::from(std::env::var_os("HOME")?).join(".cache/ipex"),
        },
    };
    let mut hashes = [DefaultHasher::new(), DefaultHasher::new()];
    1u8.hash(&mut hashes[1]);
    hashes.iter_mut().for_each(|h| key.hash(h));
    let [a, b] = hashes.map(|h| h.finish());
    Some(folder.join("gpu").join(format!("{a:016x}{b:016x}")))
}

/// Writes a file at once or not at all: two processes may be at it.
pub fn store(place: &PathBuf, bytes: &[u8]) {
    let Some(folder) = place.parent() else { return };
    let temporary = folder.join(format!(
        ".{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&temporary, bytes))
        .and_then(|()| std::fs::rename(&temporary, place));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
}
