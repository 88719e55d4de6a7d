"""Ship what was built: boxes for boards, plain files, model repositories, and a server.

An artifact goes in as it is; what comes out serves people who have Tiffin on the device, another server, or no Python.
"""
