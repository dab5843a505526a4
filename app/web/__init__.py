"""The HTTP door: DICOMweb (PS3.18) in, acts called, answers out."""
