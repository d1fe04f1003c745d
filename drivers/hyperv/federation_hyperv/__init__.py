"""The Microsoft Hyper-V driver of the driver federation."""
