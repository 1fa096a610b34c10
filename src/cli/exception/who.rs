//! Who runs the program.

use anyhow::ensure;

/// Who was named, or the user of this process on this machine; behind `sudo`, whoever called it.
///
/// # Errors
/// If the name is none.
pub fn who(named: Option<&str>) -> anyhow::Result<String> {
    let name = match named {
        Some(name) => name.to_owned(),
        None => format!("{}@{}", user(), host()),
    };
    let fits = !name.trim().is_empty() && name.chars().count() <= 200 && !name.chars().any(char::is_control);
    ensure!(fits, "--by: expected 1 to 200 characters on one line");
    Ok(name)
}

fn user() -> String {
    let id = nix::unistd::getuid();
    let called = std::env::var("SUDO_USER").ok().filter(|name| id.is_root() && !name.is_empty());
    let own = || nix::unistd::User::from_uid(id).ok().flatten().map(|user| user.name);
    called.or_else(own).unwrap_or_else(|| format!("uid {id}"))
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
