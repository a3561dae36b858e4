//! The user a container runs as, looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The files are the image's: their size is bounded, lines that do not read are passed over, and neither a device
//! nor a pipe in their place is waited for.

use crate::Failure;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Who the workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// The largest file of users or groups that is read.
const MAX_FILE: u64 = 4 << 20;
/// `(uid_t)-1`, which to the kernel means "leave it".
const NOBODY_AT_ALL: u32 = u32::MAX;

/// Finds `user[:group]` in the image that is this process's root.
pub(crate) fn find(wanted: &str) -> Result<User, Failure> {
    resolve(wanted, &read("/etc/passwd"), &read("/etc/group"))
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|found| found.is_file())
        // Half a file is no file.
        && !file.take(MAX_FILE).read_to_end(&mut bytes).is_ok_and(|size| (size as u64) < MAX_FILE)
    {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of `passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of `group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let (name, group_name) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let account = accounts(passwd).find(|account| account.name == name).or_else(|| {
        let uid = number(name)?;
        accounts(passwd).find(|account| account.uid == uid)
    });
    let uid = match &account {
        Some(account) => account.uid,
        None => number(name).ok_or_else(|| Failure::user(format!("the image has no user `{name}`")))?,
    };
    let home = account.as_ref().map_or("", |account| account.home);
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    let (gid, groups) = match group_name {
        // A group that is named replaces membership, as container tools have it.
        Some(wanted) => {
            let found = groups(group).find(|group| group.name == wanted).map(|group| group.gid);
            let gid = found
                .or_else(|| number(wanted))
                .ok_or_else(|| Failure::user(format!("the image has no group `{wanted}`")))?;
            (gid, Vec::new())
        }
        None => {
            let gid = account.as_ref().map_or(0, |account| account.gid);
            let is_member = |group: &Group<'_>| {
                account
                    .as_ref()
                    .is_some_and(|account| group.members.split(',').any(|m| m.trim() == account.name))
            };
            let mut member: Vec<u32> = groups(group)
                .filter(is_member)
                .map(|group| group.gid)
                .filter(|other| *other != gid)
                .collect();
            member.sort_unstable();
            member.dedup();
            (gid, member)
        }
    };
    Ok(User { uid, gid, groups, home })
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let (_comment, home) = (fields.next(), fields.next().unwrap_or_default());
        (!name.is_empty()).then_some(Account { name, uid, gid, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = number(fields.next()?)?;
        (!name.is_empty()).then_some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn number(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number != NOBODY_AT_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken line\napp:x:1000:1000::/home/app:/bin/sh\n\
        12:x:77:78::/twelve:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\napp:x:1000:\naudio:x:29:app,root\nvideo:x:44: app \nweb:x:33:other\nbad:x:y:app\n";

    fn ids(wanted: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(wanted, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(ids(""), (0, 0, vec![29], "/root".to_owned()));
        assert_eq!(ids("app"), (1000, 1000, vec![29, 44], "/home/app".to_owned()));
        assert_eq!(ids("1000"), (1000, 1000, vec![29, 44], "/home/app".to_owned()));
        assert_eq!(ids("4242"), (4242, 0, vec![], "/".to_owned()));
        assert_eq!(ids("12"), (77, 78, vec![], "/twelve".to_owned()), "a name wins over a number");
    }

    #[test]
    fn a_named_group_replaces_membership() {
        assert_eq!(ids("app:web"), (1000, 33, vec![], "/home/app".to_owned()));
        assert_eq!(ids("app:4242"), (1000, 4242, vec![], "/home/app".to_owned()));
        assert_eq!(ids(":web"), (0, 33, vec![], "/root".to_owned()));
        assert_eq!(ids("app:"), ids("app"));
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_refused() {
        for wanted in ["nobody", "app:nogroup", "4294967295", "4294967296", "-1", "+1", "0:4294967295"] {
            let failure = resolve(wanted, PASSWD, GROUP).unwrap_err();
            assert_eq!(failure.code, "workload.user-unknown", "{wanted}");
        }
    }

    #[test]
    fn an_image_without_users_runs_numbers_only() {
        let user = resolve("5:6", "", "").unwrap();
        assert_eq!((user.uid, user.gid), (5, 6));
        assert!(resolve("root", "", "").is_err());
    }
}
