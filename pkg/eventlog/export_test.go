package eventlog

// Verify's work with a number of passes that the test chooses.
var VerifyInPasses = verify
