//! The configuration: a file, and before it what the environment says.
//!
//! `COFFER_BROKER__STORE__POSTGRES__URL=…` is the member `store.postgres.url`. A value is TOML where it reads as such
//! (`true`, `16`, `["a"]`, `{ a = 1 }`, `"quoted"`), and a string otherwise. No member holds a secret, so none is in the
//! environment either.

use std::ffi::OsString;
use std::path::Path;

use coffer_server_http::BrokerConfig;
use serde::Deserialize;
use toml::{Table, Value};

use crate::SetupError;

/// What the names of such variables begin with.
pub const PREFIX: &str = "COFFER_BROKER__";
/// No configuration is longer.
const MAX_FILE: u64 = 1 << 20;

/// Reads the file, if one is given, and lays the environment's members over it.
pub fn read(
    file: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BrokerConfig, SetupError> {
    let mut table = match file {
        None => Table::new(),
        Some(path) => parse(path)?,
    };
    let mut names = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let wrong = |why: &str| SetupError::Environment { names: name.to_owned(), why: why.to_owned() };
        let value = value.to_str().ok_or_else(|| wrong("its value is no UTF-8"))?;
        let path: Vec<String> =
            name.split_at(PREFIX.len()).1.split("__").map(str::to_ascii_lowercase).collect();
        put(&mut table, &path, of_text(value)).map_err(|why| wrong(&why))?;
        names.push(name.to_owned());
    }
    names.sort();
    BrokerConfig::deserialize(Value::Table(table)).map_err(|error| SetupError::Environment {
        names: names.join(", "),
        why: error.to_string().trim_end().replace('\n', " "),
    })
}

/// The file's members. It is read as a whole configuration first, so that an error names its line.
fn parse(path: &Path) -> Result<Table, SetupError> {
    let unreadable = |source| SetupError::Unreadable { path: path.to_path_buf(), source };
    let wrong = |why: String| SetupError::Configuration { path: path.to_path_buf(), why };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE {
        return Err(wrong(format!("it has {length} bytes, expected at most {MAX_FILE}")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    BrokerConfig::from_toml(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn of_text(text: &str) -> Value {
    // A table of one member, because a value alone is no document.
    let read = toml::from_str::<Table>(&format!("value = {text}")).ok();
    // More than one member: the text had a line end in it.
    let single = read.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    // Dates are of no use here, and a name may look like one.
    single.filter(|value| !value.is_datetime()).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, sections)) = path.split_last() else { return Ok(()) };
    if path.iter().any(String::is_empty) {
        return Err("expected names of members with two underscores between them".to_owned());
    }
    let mut place = table;
    for section in sections {
        let next = place.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        place = match next {
            Value::Table(next) => next,
            other => return Err(format!("{section} is a {} there, expected a section", other.type_str())),
        };
    }
    place.insert(last.clone(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str, variables: &[(&str, &str)]) -> Result<BrokerConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.toml");
        std::fs::write(&path, file).unwrap();
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        read(Some(&path), variables).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_goes_before_the_file_and_the_file_before_the_defaults() {
        let config = of(
            "max_connections = 7\ndrain = \"1s\"\n[judges]\namd_revocation = \"if-present\"",
            &[
                ("COFFER_BROKER__DRAIN", "5s"),
                ("COFFER_BROKER__LISTEN", "0.0.0.0:9000"),
                ("COFFER_BROKER__EXTRA_NAMES", "[\"kbs.example\"]"),
                ("COFFER_BROKER__STORE__POSTGRES__URL", "postgres://coffer@db.example/coffer"),
                ("COFFER_BROKER__STORE__POSTGRES__CONNECTIONS", "4"),
                ("COFFER_BROKER__VERBOSE_TOKEN", "true"),
                ("COFFER_BROKER_CONFIG", "/not/ours"),
            ],
        )
        .unwrap();
        assert_eq!(config.max_connections, 7);
        assert_eq!(config.drain.0.as_secs(), 5);
        assert_eq!(config.listen.to_string(), "0.0.0.0:9000");
        assert_eq!(config.extra_names, ["kbs.example"]);
        assert_eq!(config.store["postgres"]["connections"].as_integer(), Some(4));
        assert!(config.verbose_token);
        assert_eq!(config.judges.amd_revocation, coffer_server_http::Revocation::IfPresent);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_the_variable_s_name() {
        for (variable, value) in [
            ("COFFER_BROKER__NO_SUCH", "1"),
            ("COFFER_BROKER__LISTEN", "nowhere"),
            ("COFFER_BROKER__", "1"),
            ("COFFER_BROKER__STORE____URL", "1"),
            ("COFFER_BROKER__DRAIN__SECONDS", "1"),
        ] {
            let error = of("drain = \"1s\"", &[(variable, value)]).unwrap_err();
            assert!(error.contains(variable), "{variable}: {error}");
        }
    }

    #[test]
    fn an_error_in_the_file_names_its_line() {
        let error = of("listen = \"127.0.0.1:1\"\ndrian = \"1s\"", &[]).unwrap_err();
        assert!(error.contains("drian") && error.contains("broker.toml"), "{error}");
    }

    #[test]
    fn a_value_with_a_line_end_cannot_set_a_second_member() {
        assert_eq!(of_text("1\nother = 2"), Value::String("1\nother = 2".to_owned()));
        assert_eq!(of_text("16"), Value::Integer(16));
        assert_eq!(of_text("2024-01-01"), Value::String("2024-01-01".to_owned()));
    }
}
