// How this program was built. The one unit that knows the git commit, so that a commit recompiles
// nothing else.
#pragma once
#include "apps/ablation/manifest.h"

namespace vyx::ablation {

BuildInfo build_info();

}  // namespace vyx::ablation
