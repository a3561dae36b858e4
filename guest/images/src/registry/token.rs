//! Bearer challenges and tokens (distribution specification, token authentication; RFC 6750, section 3).

use reqwest::Url;
use serde::Deserialize;

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Where tokens are given.
    pub(super) realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// Reads `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`.
    pub(super) fn parse(text: &str) -> Option<Self> {
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

    /// Where to ask for a token that may pull this repository.
    pub(super) fn url(&self, repository: &str) -> Result<Url, String> {
        let mut url = Url::parse(&self.realm).map_err(|why| why.to_string())?;
        let scope = self.scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &scope);
        drop(query);
        Ok(url)
    }
}

/// The token in a reply.
pub(super) fn read(body: &[u8]) -> Option<String> {
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
        let url = challenge.url("a/b").expect("url");
        assert_eq!(
            url.as_str(),
            "https://auth.example/token?service=registry.example&scope=repository%3Aa%2Fb%3Apull"
        );
        let short = Challenge::parse("bearer realm=\"https://x/t\"").expect("challenge");
        assert!(short.url("a/b").expect("url").as_str().ends_with("scope=repository%3Aa%2Fb%3Apull"));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
        assert_eq!(Challenge::parse("Bearer realm=\"x"), None);
    }

    #[test]
    fn a_token_has_either_name() {
        assert_eq!(read(br#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(read(br#"{"access_token":"b","expires_in":300}"#).as_deref(), Some("b"));
        assert_eq!(read(br#"{"token":""}"#), None);
        assert_eq!(read(b"no"), None);
    }
}
