//! CloudEvents, webhooks of registries and forges as one typed event, trigger filters, and the Bus port.
