//! From an image's configuration and the authorized request to the process that runs.

use coffer_core_oci::RunConfig;
use coffer_guest_gate::Container;

use crate::{ImageError, ImageFault};

/// What runs. It has no `Debug`: the environment may hold the owner's secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment: the image's, with what the request sets.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// The user, as the image names it.
    pub user: String,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
}

impl Process {
    pub(crate) fn of(image: &RunConfig, container: &Container) -> Result<Self, ImageError> {
        let args = image.command(&container.args);
        if args.is_empty() {
            return Err(Box::new(ImageFault::NoCommand));
        }
        let cwd = if image.working_dir.is_empty() { "/".into() } else { image.working_dir.clone() };
        Ok(Self {
            args,
            env: merged(&image.env, &container.env),
            cwd,
            user: image.user.clone(),
            stop_signal: image.stop_signal.clone(),
        })
    }
}

/// The image's variables in their order, each with the request's value if it sets one, then the request's others.
fn merged(image: &[String], request: &[String]) -> Vec<String> {
    let name = |entry: &String| entry.split_once('=').map_or(entry.as_str(), |(name, _)| name).to_owned();
    let mut env: Vec<String> = Vec::with_capacity(image.len().saturating_add(request.len()));
    for entry in image.iter().chain(request) {
        match env.iter_mut().find(|other| name(other) == name(entry)) {
            Some(other) => other.clone_from(entry),
            None => env.push(entry.clone()),
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_sets_variables_in_the_images_order() {
        let image = ["PATH=/bin".to_owned(), "LANG=C".to_owned()];
        let request = ["LANG=de".to_owned(), "X=1".to_owned()];
        assert_eq!(merged(&image, &request), ["PATH=/bin", "LANG=de", "X=1"]);
    }
}
