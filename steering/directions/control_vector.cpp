#include "steering/directions/control_vector.h"

namespace vyx::steering {

int64_t ControlVector::width() const {
  return directions.empty() ? 0 : directions.front().direction.vector.size(-1);
}

}  // namespace vyx::steering
