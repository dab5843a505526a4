"""The language of DICOM: tags, UIDs, syntaxes, matching; pure, without I/O, clock or loop."""
