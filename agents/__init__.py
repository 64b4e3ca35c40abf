"""The processes of Tierwise: the roles device, edge, gateway, stream, cloud and trainer, and the command line."""

import models as models  # before anything loads OpenCV, whose environment it sets
