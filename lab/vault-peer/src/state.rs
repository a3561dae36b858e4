//! What the server knows: tokens, policies, roles, and the namespaces with their engines.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::fault::Fault;
use crate::{kv, random, transit};

/// All of it.
pub(crate) struct State {
    pub(crate) sealed: bool,
    /// Time since the start, which only the test moves.
    pub(crate) now: Duration,
    pub(crate) tokens: HashMap<String, Token>,
    pub(crate) policies: HashMap<String, Vec<Rule>>,
    pub(crate) approles: HashMap<String, AppRole>,
    pub(crate) kubernetes: HashMap<String, KubernetesRole>,
    pub(crate) spaces: HashMap<String, Space>,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) requests: Vec<String>,
}

/// A token.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) policies: Vec<String>,
    pub(crate) ttl: Duration,
    /// `None` has no end.
    pub(crate) ends: Option<Duration>,
    /// The age that renewal cannot pass.
    pub(crate) latest: Option<Duration>,
}

/// A policy's rule.
#[derive(Clone, Debug)]
pub struct Rule {
    path: String,
    capabilities: Vec<String>,
}

pub(crate) struct AppRole {
    pub(crate) policies: Vec<String>,
    pub(crate) ttl: Duration,
    pub(crate) max: Duration,
    /// Secret ids and how many logins each is good for.
    pub(crate) secret_ids: HashMap<String, u32>,
}

pub(crate) struct KubernetesRole {
    pub(crate) jwt: String,
    pub(crate) policies: Vec<String>,
    pub(crate) ttl: Duration,
}

/// A namespace.
pub(crate) struct Space {
    pub(crate) kv: HashMap<String, kv::Secrets>,
    pub(crate) transit: HashMap<String, transit::Keys>,
}

impl Default for Space {
    fn default() -> Self {
        Self {
            kv: HashMap::from([("secret".to_owned(), kv::Secrets::default())]),
            transit: HashMap::from([("transit".to_owned(), transit::Keys::default())]),
        }
    }
}

impl Space {
    /// The KV engine at a mount.
    pub(crate) fn kv(&mut self, mount: &str) -> &mut kv::Secrets {
        self.kv.entry(mount.to_owned()).or_default()
    }

    /// The transit engine at a mount.
    pub(crate) fn transit(&mut self, mount: &str) -> &mut transit::Keys {
        self.transit.entry(mount.to_owned()).or_default()
    }
}

impl Default for State {
    fn default() -> Self {
        // Every token has the default policy, which lets it look at and renew itself.
        let own = |path: &str, capability: &str| Rule::new(path, &[capability]);
        let default = vec![own("auth/token/lookup-self", "read"), own("auth/token/renew-self", "update")];
        Self {
            sealed: false,
            now: Duration::ZERO,
            tokens: HashMap::new(),
            policies: HashMap::from([("default".to_owned(), default)]),
            approles: HashMap::new(),
            kubernetes: HashMap::new(),
            spaces: HashMap::from([(String::new(), Space::default())]),
            faults: VecDeque::new(),
            requests: Vec::new(),
        }
    }
}

impl Rule {
    /// A rule for a path, which may end in `*`.
    pub fn new(path: &str, capabilities: &[&str]) -> Self {
        Self { path: path.to_owned(), capabilities: capabilities.iter().map(|&name| name.into()).collect() }
    }

    fn allows(&self, path: &str, capability: &str) -> bool {
        let fits = match self.path.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == self.path,
        };
        fits && self.capabilities.iter().any(|have| have == capability)
    }
}

impl State {
    pub(crate) fn space(&mut self, namespace: &str) -> &mut Space {
        self.spaces.entry(namespace.to_owned()).or_default()
    }

    pub(crate) fn issue(&mut self, policies: &[&str], ttl: Duration, max: Duration) -> String {
        let name = format!("hvs.{}", random::hex(24));
        let mut policies: Vec<String> = policies.iter().map(|&policy| policy.into()).collect();
        policies.push("default".into());
        let latest = (max > Duration::ZERO).then_some(self.now + max);
        let ends = (ttl > Duration::ZERO).then_some(self.now + ttl);
        self.tokens.insert(name.clone(), Token { policies, ttl, ends, latest });
        name
    }

    /// The token, if it lives.
    pub(crate) fn live(&self, name: &str) -> Option<&Token> {
        self.tokens.get(name).filter(|token| token.ends.is_none_or(|end| self.now < end))
    }

    pub(crate) fn may(&self, token: &Token, path: &str, capability: &str) -> bool {
        token.policies.iter().any(|policy| {
            policy == "root"
                || self
                    .policies
                    .get(policy)
                    .is_some_and(|rules| rules.iter().any(|rule| rule.allows(path, capability)))
        })
    }

    pub(crate) fn add_approle(
        &mut self,
        policies: &[&str],
        ttl: Duration,
        max: Duration,
        uses: u32,
    ) -> (String, String) {
        let (role_id, secret_id) = (random::hex(16), random::hex(16));
        let policies = policies.iter().map(|&policy| policy.into()).collect();
        let secret_ids = HashMap::from([(secret_id.clone(), uses)]);
        self.approles.insert(role_id.clone(), AppRole { policies, ttl, max, secret_ids });
        (role_id, secret_id)
    }

    pub(crate) fn add_kubernetes(&mut self, role: &str, jwt: &str, policies: &[&str], ttl: Duration) {
        let policies = policies.iter().map(|&policy| policy.into()).collect();
        self.kubernetes.insert(role.to_owned(), KubernetesRole { jwt: jwt.to_owned(), policies, ttl });
    }
}
