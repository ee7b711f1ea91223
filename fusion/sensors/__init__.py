"""What a station's sensors say in one window: judged, scaled, compared with their twins, corrected. Pure.

From the single reading up:

1. *Standing* (`standing`). A series' readings of the window itself count, by the time they speak for
   (`fusion.weighing`). Where it has none, the one whose period covers the window stands for it
   (`streams.standing`); it was judged in its own window, and is not judged again.
2. *Reading* (`channel`). A fill value of its type of sensor is no measurement; quality control judges the
   others, each channel with a memory of its own. Only what fails is left out.
3. *Scaling* (`scaling`). Several channels of one sensor (cf_1, atm) are scalings of one measurement: one of
   them is taken, always the same, never their mean, whether they come together or in turns. The correction
   says which, else the station's record, else `SCALES`. Once taken a scaling is kept until it has been away
   for a day. Names that nobody declared and that `SCALES` has not may mean anything: where they disagree,
   none is.
4. *Twins* (`twins`). Channels ..._a and ..._b measure the same thing: their means over the window are
   compared. Where they disagree one is kept, if there are grounds (`choice`); never the mean. The one that
   was left out does not speak for the sensor when the other falls silent. Exactly nothing is what a dead
   sensor of particles shows: it never wins over one that measures, and alone it is not good before
   something else was seen.
5. *Correction* (`read`), on the mean: `aqi.correction` has linear ones only. Without the humidity it needs
   there is no value: the raw one would be another quantity under the same name.
6. *Sensors* of one station that measure the same are compared like twins.

What is left out is told, with the reason, and so are twins and sensors that disagree without any ground to
choose between them (`Disputed`): the second pass may know more, from the camera or the past.
"""
