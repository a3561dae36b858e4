//! Bearer challenges and tokens (distribution specification, token authentication; RFC 6750, section 3).

use serde::Deserialize;

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Where tokens are given.
    pub realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// Reads `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        while let Some((name, after)) = rest.trim_start_matches([' ', ',']).split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                "scope" => scope = Some(value.to_owned()),
                _ => {}
            }
            rest = after;
        }
        Some(Self { realm: realm?, service, scope })
    }

    /// The query to add to [`Self::realm`] when asking for a token that may pull this repository.
    pub fn query(&self, repository: &str) -> Vec<(&'static str, String)> {
        let scope = self.scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
        let service = self.service.iter().map(|service| ("service", service.clone()));
        service.chain([("scope", scope)]).collect()
    }
}

/// The token in a token service's reply.
pub fn read_token(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Reply {
        token: Option<String>,
        access_token: Option<String>,
    }
    let reply: Reply = serde_json::from_slice(body).ok()?;
    reply.token.or(reply.access_token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_challenge_is_read_and_others_are_not() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
        let challenge = Challenge::parse(text).expect("challenge");
        assert_eq!(challenge.realm, "https://auth.example/token");
        let scope = || ("scope", "repository:a/b:pull".to_owned());
        assert_eq!(challenge.query("c"), [("service", "registry.example".to_owned()), scope()]);
        let short = Challenge::parse("bearer realm=\"https://x/t\"").expect("challenge");
        assert_eq!(short.query("a/b"), [scope()]);
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
        assert_eq!(Challenge::parse("Bearer realm=\"x"), None);
    }

    #[test]
    fn a_token_has_either_name() {
        assert_eq!(read_token(br#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(read_token(br#"{"access_token":"b","expires_in":300}"#).as_deref(), Some("b"));
        assert_eq!(read_token(br#"{"token":""}"#), None);
        assert_eq!(read_token(b"no"), None);
    }
}
