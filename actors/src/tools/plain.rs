//! A tool that is a function.

use super::{Call, Definition, Tool, ToolResult};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;

struct Plain<F> {
    definition: Definition,
    act: F,
}

impl<F, W> Tool for Plain<F>
where
    F: Fn(Call) -> W + Send + Sync,
    W: Future<Output = ToolResult> + Send + 'static,
{
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn call(&self, call: Call) -> BoxFuture<'static, ToolResult> {
        (self.act)(call).boxed()
    }
}

/// The tool that does `act`.
pub fn plain<F, W>(definition: Definition, act: F) -> Arc<dyn Tool>
where
    F: Fn(Call) -> W + Send + Sync + 'static,
    W: Future<Output = ToolResult> + Send + 'static,
{
    Arc::new(Plain { definition, act })
}
