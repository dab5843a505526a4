"""Folders, archives and DICOMDIRs brought into an archive: ours through the store act, another's by STOW-RS."""
