//! Whether there is a Java for Spark, which no installation below a folder brings.

use std::path::{Path, PathBuf};

use super::process::command;

/// The oldest one that Spark 4 starts with.
const OLDEST: u32 = 17;

/// The one that Spark would start: `JAVA_HOME`'s, else the first on the PATH.
pub fn of_spark() -> PathBuf {
    std::env::var_os("JAVA_HOME").map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"))
}

/// Why this one does not do, and what to install; nothing if it does.
pub async fn lacking(java: &Path) -> Option<String> {
    let name = java.display().to_string();
    let ended = command(&name, ["-version"]).output().await;
    judged(&name, ended.map(|ended| String::from_utf8_lossy(&ended.stderr).into_owned()))
}

/// The same of what it said of its version.
fn judged(name: &str, said: std::io::Result<String>) -> Option<String> {
    let why = match said {
        Err(error) => format!("{name} does not start ({error})"),
        Ok(said) => match major(&said) {
            Some(found) if found >= OLDEST => return None,
            Some(found) => format!("{name} is version {found}"),
            None => format!("{name} says {:?} of its version", said.lines().next().unwrap_or_default()),
        },
    };
    Some(format!(
        "it needs Java {OLDEST} or later, and {why}; install one (Debian: apt-get install openjdk-17-jre-headless) and \
         have it on the PATH or in JAVA_HOME"
    ))
}

/// Of `openjdk version "17.0.15" 2025-04-15`. What calls itself 1.8 is too old under any reading.
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("version \"")?.1;
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_java_it_is_told_what_to_install() {
        let none = lacking(Path::new("/nowhere/bin/java")).await.unwrap();
        assert!(
            none.contains("/nowhere/bin/java does not start") && none.contains("openjdk-17-jre-headless"),
            "{none}"
        );
    }

    #[test]
    fn an_old_java_is_none_for_spark() {
        let judged = |said: &str| judged("java", Ok(said.to_owned()));
        assert!(judged("java version \"1.8.0_411\"").unwrap().contains("java is version 1;"));
        assert!(judged("openjdk version \"11.0.2\" 2019-01-15").unwrap().contains("java is version 11;"));
        assert!(judged("no VM installed\n").unwrap().contains("java says \"no VM installed\" of its version;"));
        assert_eq!(judged("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), None);
        assert_eq!(judged("Picked up JAVA_TOOL_OPTIONS: -Xint\nopenjdk version \"25-ea\" 2025-09-16"), None);
    }
}
