//! A store that outlives its core, fails when told to, and loses data that is not yet durable at a loss of power.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use hypercore_protocol::Buffer;
use hypercore_protocol::replication::{Batch, Durability, Header, Memory, Storage, StorageError};
use hypercore_protocol::schema::Node;

#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreFault {
    /// Operations, reads and commits, that succeed first.
    pub(crate) after: u64,
    /// Operations that then fail; `None` for all.
    pub(crate) count: Option<u64>,
    /// Whether reads fail too, or only commits.
    pub(crate) reads: bool,
}

#[derive(Default)]
struct Disk {
    current: Memory,
    /// The state after a loss of power.
    safe: Memory,
    operations: u64,
    faults: Vec<StoreFault>,
}

/// Clones are handles of one store.
#[derive(Clone, Default)]
pub(crate) struct SimStore(Arc<Mutex<Disk>>);

impl SimStore {
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn add_fault(&self, fault: StoreFault) {
        let mut disk = self.lock();
        let after = disk.operations + fault.after;
        disk.faults.push(StoreFault { after, ..fault });
    }

    /// Ends all faults except permanent ones.
    pub(crate) fn mend(&self) {
        self.lock().faults.retain(|fault| fault.count.is_none());
    }

    pub(crate) fn lose_power(&self) {
        let mut disk = self.lock();
        disk.current = disk.safe.clone();
    }

    fn operate(&self, is_read: bool) -> Result<MutexGuard<'_, Disk>, StorageError> {
        let mut disk = self.lock();
        disk.operations += 1;
        let at = disk.operations;
        let fails = disk.faults.iter().any(|fault| {
            let until = fault.count.map_or(u64::MAX, |count| fault.after + count);
            (fault.reads || !is_read) && at > fault.after && at <= until
        });
        if fails {
            return Err(StorageError::failed(io::Error::other("simulated")));
        }
        Ok(disk)
    }
}

impl Storage for SimStore {
    fn header(&self) -> Result<Option<Header>, StorageError> {
        self.operate(true)?.current.header()
    }

    fn secret(&self) -> Result<Option<Header>, StorageError> {
        self.operate(true)?.current.secret()
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        self.operate(true)?.current.node(index)
    }

    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError> {
        self.operate(true)?.current.block(index)
    }

    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        self.operate(true)?.current.pages(take)
    }

    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        let mut disk = self.operate(false)?;
        disk.current.commit(batch, durability)?;
        if durability == Durability::Now {
            disk.safe = disk.current.clone();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let mut disk = self.operate(false)?;
        disk.safe = disk.current.clone();
        Ok(())
    }
}
