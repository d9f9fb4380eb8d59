"""The audit over releases: what changed in the values of grad-cam, torchcam and captum, and which cases are still
there.

`install` puts each release into a folder of its own, `measure` runs in a process that sees that folder first, and
`comparison` and `page` read the files that it left, so that a release that was measured once isn't run again.
"""
