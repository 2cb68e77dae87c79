/// What an operation left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Descriptors that are open.
    pub descriptors: u64,
    /// Mappings of shared memory.
    pub mappings: u64,
    /// Files and directories.
    pub names: u64,
    /// Threads that run.
    pub threads: u64,
}

impl Left {
    /// All of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors + other.descriptors,
            mappings: self.mappings + other.mappings,
            names: self.names + other.names,
            threads: self.threads + other.threads,
        }
    }

    /// What is more than before.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            descriptors: self.descriptors.saturating_sub(before.descriptors),
            mappings: self.mappings.saturating_sub(before.mappings),
            names: self.names.saturating_sub(before.names),
            threads: self.threads.saturating_sub(before.threads),
        }
    }

    /// Whether it is not more than `most`.
    #[must_use]
    pub fn is_within(self, most: Self) -> bool {
        self.since(most) == Self::default()
    }

    /// As a line of a command.
    #[must_use]
    pub fn line(self) -> String {
        format!("{} {} {} {}", self.descriptors, self.mappings, self.names, self.threads)
    }

    /// Of such a line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next()?;
        Some(Self { descriptors: next()?, mappings: next()?, names: next()?, threads: next()? })
    }
}
