// The homeserver that mau is attached to: attach, sync, reconcile, compare, detach, and its own usage
// statistics.
#pragma once

namespace mau::source {

/// Defines the module's settings; called once per process.
void init();

}  // namespace mau::source
