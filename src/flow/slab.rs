//! Values by handle, in blocks: growing moves nothing and touches no memory before it is used.

/// How many values a block takes: so many that what an allocator rounds up to matters little.
const BLOCK: usize = 4096;

/// Values by handle. A handle is free again after [`Slab::forget`].
#[derive(Debug)]
pub(super) struct Slab<T> {
    blocks: Vec<Vec<T>>,
    free: Vec<u32>,
    len: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    pub(super) fn used(&self) -> usize {
        self.len as usize - self.free.len()
    }

    /// One more than the highest handle that was ever given.
    pub(super) fn reach(&self) -> u32 {
        self.len
    }

    /// The handle that [`Slab::add`] will give next.
    pub(super) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.len)
    }

    #[inline]
    pub(super) fn get(&self, handle: u32) -> Option<&T> {
        self.blocks.get(handle as usize / BLOCK)?.get(handle as usize % BLOCK)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        self.blocks.get_mut(handle as usize / BLOCK)?.get_mut(handle as usize % BLOCK)
    }

    /// Keeps a value.
    pub(super) fn add(&mut self, value: T) -> u32 {
        if let Some(handle) = self.free.pop() {
            if let Some(place) = self.get_mut(handle) {
                *place = value;
            }
            return handle;
        }
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(value),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(value);
                self.blocks.push(block);
            }
        }
        self.len += 1;
        self.len - 1
    }

    /// Lets the handle be given again; its value stays until then.
    pub(super) fn forget(&mut self, handle: u32) {
        self.free.push(handle);
    }
}
