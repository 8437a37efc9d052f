"""The viewer: live and recorded sessions on a screen, and corrections of recorded ones.

Knows recordings, the bus, kinematics (to measure corrected tracks) and the types; nothing of torch or cv2 (cv2 brings a
Qt of its own, which must not meet this one). Nothing here decodes video: pictures come from a process of their own.
"""
