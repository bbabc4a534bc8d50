"""XDS metadata as FHIR resources, and back."""
