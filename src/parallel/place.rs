//! The place of this process among those that share a run, as whoever started them says in the environment.
//!
//! | started by | variables |
//! |---|---|
//! | `gist train --ranks N`, torchrun, Kubernetes, a shell | `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`, perhaps `LOCAL_RANK` |
//! | Slurm's `srun` | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS`, `SLURM_LOCALID`, the first host of `SLURM_STEP_NODELIST` |

use crate::error::{Error, Result};

/// Ports that a step of Slurm may get, by job and step.
const SLURM_PORTS: (u64, u64) = (12_000, 18_000);

/// The place of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub count: usize,
    /// Number of the process among those of its machine, from 0; 0 where nobody says.
    pub local: usize,
    /// Machine on which all meet.
    pub host: String,
    /// Port there.
    pub port: u16,
    /// Whether the launcher itself keeps the place at which they meet, else rank 0 does.
    pub is_kept: bool,
}

impl Place {
    /// The place that the environment gives; none for a process that is alone.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name: &str| -> Result<Option<u64>> {
            let Some(text) = variable(name) else { return Ok(None) };
            let number = text.trim().parse();
            number.map(Some).map_err(|_| Error::invalid(format!("{name}: expected a number, got {text:?}")))
        };
        let count = match number("WORLD_SIZE")? {
            Some(count) => Some((count, "WORLD_SIZE", "RANK")),
            None => number("SLURM_STEP_NUM_TASKS")?.map(|count| (count, "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")),
        };
        let Some((count, of, rank_name)) = count.filter(|(count, ..)| *count != 1) else { return Ok(None) };
        let is_slurm = rank_name == "SLURM_PROCID";
        let missing = |name: &str| Error::invalid(format!("{name}: expected a value beside {of}={count}, got none"));
        let rank = number(rank_name)?.ok_or_else(|| missing(rank_name))?;
        if rank >= count {
            return Err(Error::invalid(format!("{rank_name}: expected less than {of} ({count}), got {rank}")));
        }
        let local = number(if is_slurm { "SLURM_LOCALID" } else { "LOCAL_RANK" })?.unwrap_or(0);
        let nodes = || variable("SLURM_STEP_NODELIST").or_else(|| variable("SLURM_JOB_NODELIST"));
        let host = variable("MASTER_ADDR").or_else(|| nodes().filter(|_| is_slurm).map(|list| first_host(&list)));
        let port = match number("MASTER_PORT")? {
            Some(port) => port,
            None if is_slurm => {
                let (job, step) = (number("SLURM_JOB_ID")?, number("SLURM_STEP_ID")?);
                SLURM_PORTS.0 + (job.unwrap_or(0) * 7 + step.unwrap_or(0)) % SLURM_PORTS.1
            }
            None => return Err(missing("MASTER_PORT")),
        };
        let bad_port = || Error::invalid(format!("MASTER_PORT: expected a port from 1 to 65535, got {port}"));
        Ok(Some(Self {
            rank: rank as usize,
            count: count as usize,
            local: local as usize,
            host: host.ok_or_else(|| missing("MASTER_ADDR"))?,
            port: u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(bad_port)?,
            is_kept: variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True"),
        }))
    }

    /// The GPU of this process, of `gpus` on its machine: each has its own, unless they `share`.
    pub fn gpu(&self, gpus: usize, share: bool) -> Result<usize> {
        match self.local {
            own if own < gpus => Ok(own),
            own if share && gpus > 0 => Ok(own % gpus),
            own => Err(Error::invalid(format!(
                "rank {}, number {own} of its machine: expected a GPU for each rank of a machine, got {gpus}; --share-gpu has \
                 several use one, --ranks or the launcher starts fewer",
                self.rank
            ))),
        }
    }

    /// Refuses a number of processes that cannot share `shards` equally; `key` is where the number came from.
    pub fn check(count: usize, shards: usize, key: &str) -> Result<()> {
        if count.is_power_of_two() && count <= shards {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{key}: expected a power of two up to parallel.grad_shards ({shards}), got {count}; \
             more shards with --set parallel.grad_shards={}",
            count.next_power_of_two()
        )))
    }
}

/// The first host of a list as Slurm writes it: `node[03-05,7],other` is `node03`.
fn first_host(list: &str) -> String {
    let Some((stem, rest)) = list.split_once('[').filter(|(stem, _)| !stem.contains(',')) else {
        return list.split(',').next().unwrap_or_default().to_string();
    };
    let (inside, after) = rest.split_once(']').unwrap_or((rest, ""));
    let first = inside.split([',', '-']).next().unwrap_or_default();
    let suffix = after.split(',').next().unwrap_or_default();
    format!("{stem}{first}{suffix}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn place(variables: &[(&str, &str)]) -> Result<Option<Place>> {
        let known: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Place::of(|name| known.get(name).map(|value| value.to_string()))
    }

    #[test]
    fn launchers_say_who_is_where() {
        assert_eq!(place(&[]).unwrap(), None);
        assert_eq!(place(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(), None);
        assert_eq!(
            place(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]).unwrap(),
            None,
            "a batch script is one process"
        );
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "29500")];
        let expected = Place { rank: 1, count: 2, local: 0, host: "a".into(), port: 29500, is_kept: false };
        assert_eq!(place(&torchrun).unwrap(), Some(expected.clone()));
        let second = [&torchrun[..], &[("LOCAL_RANK", "1")]].concat();
        assert_eq!(place(&second).unwrap(), Some(Place { local: 1, ..expected.clone() }));
        let agent = [&torchrun[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(place(&agent).unwrap(), Some(Place { is_kept: true, ..expected }));
        let slurm = [
            ("SLURM_PROCID", "3"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_STEP_NODELIST", "n[07-08]"),
            ("SLURM_JOB_ID", "10"),
            ("SLURM_STEP_ID", "2"),
        ];
        let expected = Place { rank: 3, count: 4, local: 1, host: "n07".into(), port: 12_072, is_kept: false };
        assert_eq!(place(&slurm).unwrap(), Some(expected));
    }

    #[test]
    fn what_a_launcher_forgot_is_named() {
        let whole = [("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "29500")];
        for missing in ["RANK", "MASTER_ADDR", "MASTER_PORT"] {
            let rest: Vec<_> = whole.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = place(&rest).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{missing}: expected a value beside WORLD_SIZE=2")), "{error}");
        }
        for (name, value) in [("RANK", "2"), ("RANK", "one"), ("MASTER_PORT", "0"), ("MASTER_PORT", "70000")] {
            let changed: Vec<_> = whole.into_iter().map(|(n, v)| (n, if n == name { value } else { v })).collect();
            let error = place(&changed).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn worlds_that_cannot_share_are_refused() {
        for (count, shards) in [(1, 1), (2, 2), (2, 8), (8, 8)] {
            Place::check(count, shards, "--ranks").unwrap();
        }
        for (count, shards) in [(0, 4), (3, 4), (2, 1), (8, 4)] {
            let error = Place::check(count, shards, "--ranks").unwrap_err().to_string();
            let expected =
                format!("--ranks: expected a power of two up to parallel.grad_shards ({shards}), got {count}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn each_rank_of_a_machine_has_a_gpu_of_its_own_unless_they_share() {
        let of = |local| Place { rank: 4 + local, count: 8, local, host: "a".into(), port: 1, is_kept: false };
        assert_eq!([0, 1, 2].map(|local| of(local).gpu(3, false).unwrap()), [0, 1, 2]);
        assert_eq!([0, 1, 2, 3].map(|local| of(local).gpu(2, true).unwrap()), [0, 1, 0, 1]);
        let error = of(2).gpu(2, false).unwrap_err().to_string();
        assert!(error.contains("rank 6, number 2 of its machine") && error.contains("--share-gpu"), "{error}");
        of(0).gpu(0, true).unwrap_err();
    }

    #[test]
    fn the_first_host_of_a_list() {
        for (list, first) in
            [("a", "a"), ("a,b", "a"), ("n[03-05,7],m", "n03"), ("n[1,3]-x", "n1-x"), ("a,n[1-2]", "a")]
        {
            assert_eq!(first_host(list), first);
        }
    }
}
