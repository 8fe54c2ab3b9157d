//! What podtap gives up once its interfaces are open: it parses hostile bytes beside other people's data.
//!
//! Capabilities, new privileges by exec, writes and programs outside of a few folders (Landlock), and system calls that no
//! part of it needs (seccomp). Each measure is of the thread that takes it and of those that it starts, so they are taken
//! before anything else is started; only the thread that opens interfaces keeps CAP_NET_RAW. What a kernel does not have
//! is told, not required.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// A measure, with what came of it.
pub type Measure = (&'static str, Result<String, String>);

/// Gives up all that is not needed from now on, but for writing below `writable`.
pub fn give_up(writable: &[PathBuf]) -> Vec<Measure> {
    vec![
        ("capabilities", keep(CapabilitySet::empty()).map(|()| "none left".to_owned())),
        ("no_new_privs", set_no_new_privs(true).map(|()| "set".to_owned()).map_err(|error| error.to_string())),
        ("landlock", landlock(writable)),
        ("seccomp", seccomp()),
    ]
}

/// Of this thread's capabilities, leaves the one to open packet sockets, if it has that.
pub(crate) fn keep_only_net_raw() {
    if let Err(error) = keep(CapabilitySet::NET_RAW) {
        tracing::warn!(error, "capabilities cannot be given up");
    }
}

fn keep(wanted: CapabilitySet) -> Result<(), String> {
    let words = |error: rustix::io::Errno| error.to_string();
    let has = rustix::thread::capabilities(None).map_err(words)?;
    let permitted = has.permitted & wanted;
    let left = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, left).map_err(words)
}

/// Files can be read, but written only below `writable`, and none can be executed.
fn landlock(writable: &[PathBuf]) -> Result<String, String> {
    // Of what later kernels know, only what this one does is asked for.
    let handled = AccessFs::from_write(ABI::V5) | AccessFs::Execute;
    let allowed: BitFlags<AccessFs> = AccessFs::from_write(ABI::V5) & !BitFlags::from(AccessFs::IoctlDev);
    let restrict = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(handled)?
            .create()?
            .add_rules(path_beneath_rules(writable, allowed))?
            .restrict_self()
    };
    match restrict() {
        Ok(status) => match status.ruleset {
            RulesetStatus::NotEnforced => Err("this kernel does not have it".to_owned()),
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced if writable.is_empty() => {
                Ok("nothing can be written or executed".to_owned())
            }
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => {
                let folders: Vec<_> = writable.iter().map(|path| path.display().to_string()).collect();
                Ok(format!("nothing can be executed, or written but below {}", folders.join(", ")))
            }
        },
        Err(error) => Err(error.to_string()),
    }
}

/// System calls that give power over other processes, the kernel or the file system as a whole.
const DENIED: [libc::c_long; 31] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
];

fn seccomp() -> Result<String, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let rules: BTreeMap<_, _> = DENIED.into_iter().map(|call| (call, Vec::new())).collect();
    let refused = u32::try_from(libc::EPERM).unwrap_or(1);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(refused), arch);
    let program: BpfProgram = filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    Ok(format!("{} system calls are refused", DENIED.len()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_given_up_is_gone_and_the_rest_works() {
        let folder = tempfile::tempdir().unwrap();
        let (open, closed) = (folder.path().join("open"), folder.path().join("closed"));
        fs::create_dir(&open).unwrap();
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("read"), "me").unwrap();
        // Of a thread, so that the other tests keep what they have.
        let check = move || {
            let measures = give_up(std::slice::from_ref(&open));
            let worked = |name| measures.iter().any(|(measure, result)| *measure == name && result.is_ok());
            assert!(worked("capabilities") && worked("no_new_privs"), "{measures:?}");
            assert_eq!(rustix::thread::capabilities(None).unwrap().effective, CapabilitySet::empty());
            fs::write(open.join("file"), "written").unwrap();
            assert_eq!(fs::read_to_string(closed.join("read")).unwrap(), "me");
            match worked("landlock") {
                true => assert!(fs::write(closed.join("file"), "written").is_err()),
                false => eprintln!("skipped: Landlock: {measures:?}"),
            }
            match worked("landlock") || worked("seccomp") {
                true => assert!(std::process::Command::new("/bin/true").status().is_err()),
                false => eprintln!("skipped: seccomp: {measures:?}"),
            }
        };
        std::thread::spawn(check).join().unwrap();
    }
}
