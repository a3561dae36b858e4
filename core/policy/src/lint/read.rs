//! A policy's rules in a form that can be reasoned about: which claims they compare with what.
//!
//! Holds true: what is not understood becomes [`Term::Other`] or [`Test::Other`], of which nothing is concluded.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Engine;
use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, Query, Rule, RuleHead};
use serde_json::Value;

use crate::FILE;

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Root {
    Input,
    Data,
}

/// A place in the input or the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) root: Root,
    /// Names; none where any element is meant.
    pub(super) segments: Vec<Option<String>>,
    /// Whether it has a value even if there is nothing there (`object.get`).
    pub(super) lenient: bool,
}

impl Path {
    /// As a person writes it.
    pub(super) fn text(&self) -> String {
        let root = if self.root == Root::Input { "input" } else { "data" };
        self.segments.iter().fold(root.to_owned(), |text, segment| match segment {
            Some(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                format!("{text}.{name}")
            }
            Some(name) => format!("{text}[{name:?}]"),
            None => format!("{text}[_]"),
        })
    }
}

/// A value in a rule.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Path(Path),
    Constant(Value),
    /// One of several constants.
    List(Vec<Value>),
    /// A named reference value.
    Asked(String),
    /// Another rule's value.
    Rule(String),
    Other,
}

/// One condition of a rule.
pub(super) struct Condition {
    pub(super) line: u32,
    pub(super) negated: bool,
    pub(super) test: Test,
}

/// What must hold.
pub(super) enum Test {
    Compare(Comparison, Term, Term),
    In(Term, Term),
    /// It is defined and not false.
    Is(Term),
    Other,
}

/// How two terms are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
    Unequal,
}

/// A rule, with all of its bodies at one place.
pub(super) struct RuleRead {
    pub(super) name: String,
    pub(super) line: u32,
    pub(super) is_default: bool,
    pub(super) bodies: Vec<Vec<Condition>>,
}

/// A claim that is looked at.
pub(super) struct Seen {
    pub(super) path: Path,
    pub(super) line: u32,
}

/// A policy that was read.
#[derive(Default)]
pub(super) struct Module {
    pub(super) rules: Vec<RuleRead>,
    pub(super) seen: Vec<Seen>,
    pub(super) asks_for: BTreeSet<String>,
    /// The rules that other rules mention.
    pub(super) mentioned: BTreeSet<String>,
    /// Names that are nothing.
    pub(super) undefined: Vec<(String, u32)>,
    /// Every text in it.
    pub(super) texts: BTreeSet<String>,
}

/// Reads a policy; none if it has a syntax error.
pub(super) fn module(rego: &str) -> Option<Module> {
    let parse = |v0| {
        let mut engine = Engine::new();
        engine.set_rego_v0(v0);
        engine.add_policy(FILE.to_owned(), rego.to_owned()).ok().map(|_| engine)
    };
    let mut engine = parse(false).or_else(|| parse(true))?;
    let parsed = engine.get_modules().first()?.clone();
    let mut reader = Reader::default();
    for rule in &parsed.policy {
        let name = name_of(rule);
        if !reader.names.insert(name.clone()) {
            reader.repeated.insert(name);
        }
    }
    for import in &parsed.imports {
        reader.imported.extend(import.r#as.as_ref().map(|span| span.text().to_owned()));
        reader.imported.extend(flat(&import.refr).rsplit('.').next().map(str::to_owned));
    }
    // Twice, so that names that stand for others are known wherever they are written. Only the second counts.
    parsed.policy.iter().for_each(|rule| reader.rule(rule));
    reader.module = Module::default();
    parsed.policy.iter().for_each(|rule| reader.rule(rule));
    Some(reader.module)
}

#[derive(Default)]
struct Reader {
    module: Module,
    names: BTreeSet<String>,
    /// Names of more than one rule, which stand for nothing alone.
    repeated: BTreeSet<String>,
    imported: BTreeSet<String>,
    /// Rules that are another name for a path or a constant.
    aliases: BTreeMap<String, Term>,
    /// Variables of the body that is read.
    locals: BTreeMap<String, Term>,
    /// The rule that is read, which does not mention itself.
    current: String,
    /// How deep the expression is that is read.
    depth: u32,
}

/// What is deeper is not looked at: no person wrote it.
const MAX_DEPTH: u32 = 200;

fn name_of(rule: &Rule) -> String {
    let refr = match rule {
        Rule::Spec {
            head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. },
            ..
        } => refr,
        Rule::Default { refr, .. } => refr,
    };
    flat(refr).split('.').next().unwrap_or_default().to_owned()
}

/// A name with dots, as in `object.get`.
fn flat(expr: &Expr) -> String {
    let mut names = Vec::new();
    let mut at = expr;
    let first = loop {
        match at {
            Expr::RefDot { refr, field, .. } => {
                names.push(field.0.text());
                at = refr;
            }
            Expr::RefBrack { refr, .. } => at = refr,
            other => break other.span().text(),
        }
    };
    names.push(first);
    names.reverse();
    names.join(".")
}

fn json(value: &regorus::Value) -> Option<Value> {
    serde_json::from_str(&value.to_json_str().ok()?).ok()
}

impl Reader {
    fn rule(&mut self, rule: &Rule) {
        self.current = name_of(rule);
        self.locals.clear();
        let line = rule.span().line;
        let name = self.current.clone();
        match rule {
            Rule::Default { value, .. } => {
                self.term(value);
                self.module.rules.push(RuleRead { name, line, is_default: true, bodies: Vec::new() });
            }
            Rule::Spec { head, bodies, .. } => {
                let mut read = Vec::new();
                let value = match head {
                    RuleHead::Compr { assign, .. } => assign.as_ref().map(|assign| &assign.value),
                    RuleHead::Set { key, .. } => key.as_ref(),
                    RuleHead::Func { args, assign, .. } => {
                        for argument in args {
                            self.bind(argument, Term::Other);
                        }
                        assign.as_ref().map(|assign| &assign.value)
                    }
                };
                let arguments = self.locals.clone();
                for body in bodies {
                    self.locals.clone_from(&arguments);
                    let mut conditions = Vec::new();
                    self.query(&body.query, &mut conditions);
                    if let Some(assign) = &body.assign {
                        self.term(&assign.value);
                    }
                    // The head is evaluated with the body's variables.
                    if let Some(value) = value {
                        self.term(value);
                    }
                    read.push(conditions);
                }
                let unconditional = read.iter().all(Vec::is_empty) && !self.repeated.contains(&name);
                if bodies.is_empty()
                    && let Some(value) = value
                {
                    self.term(value);
                }
                if let (RuleHead::Compr { .. }, Some(value), true) =
                    (head, value, unconditional && read.len() <= 1)
                {
                    let alias = self.term(value);
                    if matches!(alias, Term::Path(_) | Term::Constant(_) | Term::List(_)) {
                        self.aliases.insert(name.clone(), alias);
                    }
                }
                self.module.rules.push(RuleRead { name, line, is_default: false, bodies: read });
            }
        }
    }

    fn query(&mut self, query: &Query, conditions: &mut Vec<Condition>) {
        for statement in &query.stmts {
            let line = statement.span.line;
            // What `with` replaces is not followed.
            let replaced = !statement.with_mods.is_empty();
            let (negated, test) = match &statement.literal {
                Literal::Expr { expr, .. } => (false, self.test(expr)),
                Literal::NotExpr { expr, .. } => (true, self.test(expr)),
                Literal::SomeVars { vars, .. } => {
                    for name in vars {
                        self.locals.insert(name.text().to_owned(), Term::Other);
                    }
                    continue;
                }
                Literal::SomeIn { key, value, collection, .. } => {
                    let element = self.element(collection);
                    if let Some(key) = key {
                        self.bind(key, Term::Other);
                    }
                    self.bind(value, element);
                    (false, Test::Other)
                }
                Literal::Every { key, value, domain, query, .. } => {
                    let element = self.element(domain);
                    let outer = self.locals.clone();
                    self.locals.extend(key.as_ref().map(|key| (key.text().to_owned(), Term::Other)));
                    self.locals.insert(value.text().to_owned(), element);
                    self.query(query, &mut Vec::new());
                    self.locals = outer;
                    (false, Test::Other)
                }
            };
            conditions.push(Condition { line, negated, test: if replaced { Test::Other } else { test } });
        }
    }

    /// An element of a collection.
    fn element(&mut self, collection: &Expr) -> Term {
        match self.term(collection) {
            Term::Path(mut path) => {
                path.segments.push(None);
                Term::Path(path)
            }
            _ => Term::Other,
        }
    }

    fn bind(&mut self, pattern: &Expr, term: Term) {
        match pattern {
            Expr::Var { span, .. } => {
                self.locals.insert(span.text().to_owned(), term);
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.bind(item, Term::Other)),
            Expr::Object { fields, .. } => {
                fields.iter().for_each(|(_, _, value)| self.bind(value, Term::Other))
            }
            _ => {}
        }
    }

    fn test(&mut self, expr: &Expr) -> Test {
        match expr {
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let op = match op {
                    BoolOp::Lt => Comparison::Less,
                    BoolOp::Le => Comparison::AtMost,
                    BoolOp::Eq => Comparison::Equal,
                    BoolOp::Ge => Comparison::AtLeast,
                    BoolOp::Gt => Comparison::More,
                    BoolOp::Ne => Comparison::Unequal,
                };
                Test::Compare(op, self.term(lhs), self.term(rhs))
            }
            Expr::Membership { value, collection, .. } => Test::In(self.term(value), self.term(collection)),
            Expr::AssignExpr { op, lhs, rhs, .. } => {
                let value = self.term(rhs);
                let fresh = matches!(&**lhs, Expr::Var { span, .. } if !self.locals.contains_key(span.text()) && !self.names.contains(span.text()));
                match (op, fresh) {
                    (AssignOp::ColEq, _) | (AssignOp::Eq, true) => {
                        self.bind(lhs, value.clone());
                        Test::Is(presence(value))
                    }
                    (AssignOp::Eq, false) => Test::Compare(Comparison::Equal, self.term(lhs), value),
                }
            }
            _ => Test::Is(self.term(expr)),
        }
    }

    /// Reads an expression, and notes what it looks at.
    fn term(&mut self, expr: &Expr) -> Term {
        self.deeper(|reader| reader.any_term(expr))
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Term) -> Term {
        if self.depth >= MAX_DEPTH {
            return Term::Other;
        }
        self.depth = self.depth.saturating_add(1);
        let term = read(self);
        self.depth = self.depth.saturating_sub(1);
        term
    }

    fn any_term(&mut self, expr: &Expr) -> Term {
        let line = expr.span().line;
        let term = match expr {
            Expr::String { value, .. } | Expr::RawString { value, .. } => {
                let text = json(value);
                self.module.texts.extend(text.as_ref().and_then(Value::as_str).map(str::to_owned));
                text.map_or(Term::Other, Term::Constant)
            }
            Expr::Number { value, .. } | Expr::Bool { value, .. } => {
                json(value).map_or(Term::Other, Term::Constant)
            }
            Expr::Null { .. } => Term::Constant(Value::Null),
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr),
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                let items: Vec<Term> = items.iter().map(|item| self.term(item)).collect();
                let constant = |term: Term| match term {
                    Term::Constant(value) => Some(value),
                    _ => None,
                };
                items.into_iter().map(constant).collect::<Option<Vec<_>>>().map_or(Term::Other, Term::List)
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.term(key);
                    self.term(value);
                }
                Term::Other
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.comprehension(query, &[term]);
                Term::Other
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.comprehension(query, &[key, value]);
                Term::Other
            }
            Expr::Call { fcn, params, .. } => self.call(fcn, params),
            Expr::UnaryExpr { expr, .. } => {
                self.term(expr);
                Term::Other
            }
            Expr::BinExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
                self.term(lhs);
                self.term(rhs);
                Term::Other
            }
            Expr::BoolExpr { .. } | Expr::AssignExpr { .. } | Expr::Membership { .. } => {
                self.test(expr);
                Term::Other
            }
            #[allow(unreachable_patterns, reason = "which kinds there are depends on the engine's features")]
            _ => Term::Other,
        };
        if let Term::Path(path) = &term {
            self.module.seen.push(Seen { path: path.clone(), line });
        }
        term
    }

    fn comprehension(&mut self, query: &Query, terms: &[&regorus::unstable::Ref<Expr>]) {
        let outer = self.locals.clone();
        self.query(query, &mut Vec::new());
        for term in terms {
            self.term(term);
        }
        self.locals = outer;
    }

    fn call(&mut self, function: &Expr, parameters: &[regorus::unstable::Ref<Expr>]) -> Term {
        let name = flat(function);
        let terms: Vec<Term> = parameters.iter().map(|parameter| self.term(parameter)).collect();
        if self.names.contains(&name) {
            self.mention(&name);
            return Term::Rule(name);
        }
        match (name.as_str(), terms.as_slice()) {
            ("query_reference_value", [Term::Constant(Value::String(asked))]) => {
                self.module.asks_for.insert(asked.clone());
                Term::Asked(asked.clone())
            }
            ("object.get", [Term::Path(base), key, _]) => {
                let mut path = Path { lenient: true, ..base.clone() };
                let name = |value: &Value| value.as_str().map(str::to_owned);
                match key {
                    Term::Constant(value) => path.segments.push(name(value)),
                    Term::List(values) => path.segments.extend(values.iter().map(name)),
                    _ => path.segments.push(None),
                }
                Term::Path(path)
            }
            _ => Term::Other,
        }
    }

    fn mention(&mut self, name: &str) {
        if self.current != name {
            self.module.mentioned.insert(name.to_owned());
        }
    }

    /// A name, or a path that begins at one. Nothing is noted of the path itself.
    fn reference(&mut self, expr: &Expr) -> Term {
        self.deeper(|reader| reader.any_reference(expr))
    }

    fn any_reference(&mut self, expr: &Expr) -> Term {
        match expr {
            Expr::Var { span, .. } => self.name(span.text(), span.line),
            Expr::RefDot { refr, field, .. } => {
                let base = self.reference(refr);
                self.below(base, json(&field.1).and_then(|name| name.as_str().map(str::to_owned)))
            }
            Expr::RefBrack { refr, index, .. } => {
                let base = self.reference(refr);
                let fixed = match &**index {
                    // A variable without a value yet runs over all elements.
                    Expr::Var { span, .. } if span.text() == "_" => None,
                    Expr::Var { span, .. }
                        if !self.locals.contains_key(span.text()) && !self.names.contains(span.text()) =>
                    {
                        self.locals.insert(span.text().to_owned(), Term::Other);
                        None
                    }
                    index => match self.term(index) {
                        Term::Constant(Value::String(name)) => Some(name),
                        _ => None,
                    },
                };
                self.below(base, fixed)
            }
            other => self.term(other),
        }
    }

    fn below(&mut self, base: Term, name: Option<String>) -> Term {
        match base {
            Term::Path(mut path) => {
                path.segments.push(name);
                // The policy's own rules are data too.
                match path.segments.as_slice() {
                    [Some(package), Some(rule)] if path.root == Root::Data && package == "policy" => {
                        let rule = rule.clone();
                        self.mention(&rule);
                        Term::Rule(rule)
                    }
                    _ => Term::Path(path),
                }
            }
            Term::Rule(_) | Term::Constant(_) | Term::List(_) | Term::Asked(_) | Term::Other => Term::Other,
        }
    }

    fn name(&mut self, name: &str, line: u32) -> Term {
        if let Some(term) = self.locals.get(name) {
            return term.clone();
        }
        let root = match name {
            "input" => Root::Input,
            "data" => Root::Data,
            _ if self.names.contains(name) => {
                self.mention(name);
                return self.aliases.get(name).cloned().unwrap_or_else(|| Term::Rule(name.to_owned()));
            }
            _ => {
                if name != "_" && !self.imported.contains(name) {
                    self.module.undefined.push((name.to_owned(), line));
                }
                return Term::Other;
            }
        };
        Term::Path(Path { root, segments: Vec::new(), lenient: false })
    }
}

/// A variable takes any value, false too; so an assignment demands no more than that there is one.
fn presence(term: Term) -> Term {
    match term {
        Term::Constant(_) | Term::List(_) => Term::Constant(Value::Bool(true)),
        other => other,
    }
}
